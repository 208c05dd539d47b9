# A checkpoint that is quantized in milliseconds, for scripts that do so hundreds of times.

# small_model DIR [LAYERS [INTERMEDIATE]]: a llama whose weights are the digits of ascending numbers, read as bfloat16.
small_model() {
  local layers=${2:-2} intermediate=${3:-128} offset=0 text='{' layer norm linear length i
  mkdir -p "$1"
  sed -E "s/(\"hidden_size\": )[0-9]+/\164/; s/(\"intermediate_size\": )[0-9]+/\1$intermediate/
    s/(\"num_hidden_layers\": )[0-9]+/\1$layers/; s/(\"num_attention_heads\": )[0-9]+/\14/
    s/(\"num_key_value_heads\": )[0-9]+/\12/; s/(\"head_dim\": )[0-9]+/\116/
    s/(\"vocab_size\": )[0-9]+/\164/" "$demo/config.json" >"$1/config.json"
  echo '{"eos_token_id": 2}' >"$1/generation_config.json"
  add() { # NAME ROWS [COLUMNS]
    local size=$((2 * $2 * ${3:-1}))
    text+="\"model.$1.weight\":{\"dtype\":\"BF16\",\"shape\":[$2${3:+,$3}],\"data_offsets\":[$offset,$((offset + size))]},"
    offset=$((offset + size))
  }
  add embed_tokens 64 64
  add norm 64
  for ((layer = 0; layer < layers; ++layer)); do
    for norm in input post_attention; do add layers.$layer.${norm}_layernorm 64; done
    for linear in q o; do add layers.$layer.self_attn.${linear}_proj 64 64; done
    for linear in k v; do add layers.$layer.self_attn.${linear}_proj 32 64; done
    for linear in gate up; do add layers.$layer.mlp.${linear}_proj "$intermediate" 64; done
    add layers.$layer.mlp.down_proj 64 "$intermediate"
  done
  text=${text%,}}
  while ((${#text} % 8 != 0)); do text+=" "; done
  length=${#text}
  {
    for i in 0 1 2 3 4 5 6 7; do printf "\\x$(printf %02x $((length >> (8 * i) & 255)))"; done
    printf %s "$text"
    seq 1 $((offset / 2)) | head -c $offset
  } >"$1/model.safetensors"
}

# same_folder A B: the same files with the same bytes.
same_folder() { diff -rq "$1" "$2" >"$work/differ" 2>&1 || complain "$1 and $2 differ: $(head -3 "$work/differ")"; }

# alone NAME...: nothing else lies in the working directory, hidden files included, but out, err and differ.
alone() {
  local name
  for name in .[!.]* *; do
    [[ -e $name || -L $name ]] || continue
    [[ " out err differ $* " == *" $name "* ]] || { complain "'$name' is left behind"; rm -rf "$name"; }
  done
}

# Memory instead of a disk, where there is some: these tests are about names and bytes, and sync often.
use_memory() { [[ -d /dev/shm && -w /dev/shm ]] && export TMPDIR=/dev/shm; }

# Builds the shim that makes calls fail (fault_shim.cpp) as $work/shim.so; ends the test as skipped where that cannot be.
build_shim() {
  if grep -qaE '__(asan|tsan|msan)_init' "$qtool"; then
    echo "SKIPPED: a sanitizer must come first in the order of libraries" >&2
    exit 77
  fi
  ${CXX:-c++} -shared -fPIC -O1 -std=c++20 -o "$work/shim.so" "$repo/test/cmd/fault_shim.cpp" -ldl 2>"$work/err" || {
    echo "SKIPPED: the shim cannot be built: $(head -1 "$work/err")" >&2
    exit 77
  }
}
