#!/usr/bin/env bash
# Memory that was promised: --max-ram of quantize holds for matrices many times as large, a limit that is too small
# says which would do, and a control group's limit is heeded before anything is loaded.
source "$(dirname "$0")/lib.sh"

# giant FOLDER DTYPE VOCAB HEADS: a Llama of one layer, hidden size 1024, tied, whose embedding is [VOCAB, 1024] and whose
# first and last matrix of attention are [64 HEADS, 1024] and its twin. All zeros, in a sparse file.
giant() {
  local folder=$1 dtype=$2 vocab=$3 heads=$4 size=2 name=BF16 text='{' offset=0
  [[ $dtype != float32 ]] || { size=4 name=F32; }
  mkdir "$folder"
  sed -E "s/(\"hidden_size\": )[0-9]+/\11024/; s/(\"intermediate_size\": )[0-9]+/\1256/; s/(\"num_hidden_layers\": )[0-9]+/\11/
    s/(\"num_attention_heads\": )[0-9]+/\1$heads/; s/(\"num_key_value_heads\": )[0-9]+/\11/; s/(\"head_dim\": )[0-9]+/\164/
    s/(\"vocab_size\": )[0-9]+/\1$vocab/; s/\"bfloat16\"/\"$dtype\"/; s/(\"tie_word_embeddings\": )[a-z]+/\1true/" \
    "$demo/config.json" >"$folder/config.json"
  add() { # NAME ROWS [COLUMNS]
    local end=$((offset + size * $2 * ${3:-1}))
    text+="\"model.$1.weight\":{\"dtype\":\"$name\",\"shape\":[$2${3:+,$3}],\"data_offsets\":[$offset,$end]},"
    offset=$end
  }
  add embed_tokens "$vocab" 1024
  add norm 1024
  add layers.0.input_layernorm 1024
  add layers.0.post_attention_layernorm 1024
  add layers.0.self_attn.q_proj $((64 * heads)) 1024
  add layers.0.self_attn.k_proj 64 1024
  add layers.0.self_attn.v_proj 64 1024
  add layers.0.self_attn.o_proj 1024 $((64 * heads))
  add layers.0.mlp.gate_proj 256 1024
  add layers.0.mlp.up_proj 256 1024
  add layers.0.mlp.down_proj 1024 256
  safetensors "$folder/model.safetensors" "${text%,}}" $offset
}

# A sanitizer's shadow memory counts as the program's own, which leaves nothing of such limits for the work.
if grep -q -e __asan_init -e __tsan_init "$qtool"; then echo "skipped: built with a sanitizer" >&2; exit 77; fi
peak_below() { # BYTES: what the report on stdout says
  local peak
  peak=$(grep -oE '"peak_rss_bytes":[0-9]+' "$work/out" | grep -oE '[0-9]+$')
  ((${peak:-0} > 0 && peak <= $1)) || complain "$said: a peak of ${peak:-unknown} bytes, more than $1"
}

limit=64000000
convert() { # OUTPUT ARGUMENT...
  run 0 quantize "${@:2}" -o "$work/$1" --max-ram 64MB --threads 8 --json --quiet
  peak_below $limit
}
giant "$work/embedding" float32 75000 1 # 307 MB, kept: bfloat16 when it comes out
convert kept "$work/embedding" --dtype bfloat16 --double-quant
rm -rf "$work/kept" "$work/embedding"
giant "$work/linear" bfloat16 16 1221 # two of 160 MB, quantized
for scheme in "nf4dq --double-quant --verify" "int8 --bits 8 --verify"; do
  read -r name options <<<"$scheme"
  # shellcheck disable=SC2086  # options are words
  convert "$name" "$work/linear" $options
  convert back "$work/$name" --bits 16 # quantized giants are read in pieces, too
  rm -rf "$work/back" "${work:?}/$name"
done

# --- too little: the sentence names the least that works, and it works
fails 6 "the least that works is --max-ram " quantize "$work/linear" -o "$work/out-dir" --max-ram 3MB --double-quant
least=$(grep -oE 'max-ram [0-9]+MB' "$work/err" | tail -1 | grep -oE '[0-9]+MB')
run 0 quantize "$work/linear" -o "$work/out-dir" --max-ram "$least" --double-quant --json --quiet
peak_below $((${least%MB} * 1000000))
rm -rf "$work/out-dir"

# --- a control group of 40 MB: what needs more is refused with exit 6 before it begins. Stands in for the kernel's files,
# in a mount namespace of its own, where this user may make one.
in_group() { # VERSION LIMIT ARGUMENT...: qtool as in a control group that uses 1 MB
  unshare -m bash -c '
    mount -t tmpfs none /sys/fs/cgroup
    if [[ $1 == 2 ]]; then
      echo "$2" >/sys/fs/cgroup/memory.max && echo 1000000 >/sys/fs/cgroup/memory.current
    else  # the group itself, below a root without a limit
      folder=/sys/fs/cgroup/memory$(sed -nE "s/^[0-9]+:memory://p" /proc/self/cgroup)
      mkdir -p "$folder"
      echo "$2" >"$folder/memory.limit_in_bytes" && echo 1000000 >"$folder/memory.usage_in_bytes"
    fi
    exec "${@:3}"' _ "$@"
}
said="qtool in a control group"
if unshare -m mount -t tmpfs none /sys/fs/cgroup 2>/dev/null; then
  for version in 1 2; do
    in_group $version 8000000 "$qtool" generate "$demo" -p x --device cpu >"$work/out" 2>"$work/err"
    [[ $? == 6 ]] || complain "control group v$version: generate does not end with exit 6: $(cat "$work/err")"
    grep -q "this needs .* but 7.00 MB are free" "$work/err" || complain "control group v$version: $(cat "$work/err")"
    in_group $version 80000000 "$qtool" generate "$demo" -p x -n 1 --device cpu >"$work/out" 2>"$work/err" ||
      complain "control group v$version: 80 MB do not do: $(cat "$work/err")"
    # quantize makes do with fewer threads, down to one
    in_group $version 8000000 "$qtool" quantize "$work/linear" --double-quant -o "$work/out-dir" >"$work/out" 2>"$work/err"
    [[ $? == 6 ]] || complain "control group v$version: quantize does not end with exit 6: $(cat "$work/err")"
    grep -q "but only 7 MB of memory are free" "$work/err" || complain "control group v$version: $(cat "$work/err")"
    in_group $version 31000000 "$qtool" quantize "$work/linear" --double-quant -o "$work/out-dir" --json --quiet \
      --threads 8 >"$work/out" 2>"$work/err" || complain "control group v$version: 30 MB do not do: $(cat "$work/err")"
    peak_below 50000000 # what the program has itself, and 30 MB
    rm -rf "$work/out-dir"
  done
else
  echo "SKIPPED: control groups, no mount namespace to be had" >&2
fi

finish
