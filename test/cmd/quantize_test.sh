#!/usr/bin/env bash
# `qtool quantize` as scripts use it: what is on stdout, exit codes, what is left on the disk.
#   quantize_test.sh QTOOL REPOSITORY
source "$(dirname "$0")/lib.sh"
cd "$work" || exit 1

fail() { complain "$*"; }
# expect CODE ARGUMENT...: of `qtool quantize`; an error is one sentence on stderr and nothing on stdout.
expect() {
  if (($1 == 0)); then run 0 quantize "${@:2}"; else fails "$1" "" quantize "${@:2}"; fi
}
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
nothing_left() { # besides the names given
  local name
  for name in .[!.]* *; do
    [[ -e $name ]] || continue
    [[ " out err $* " == *" $name "* ]] || fail "'$name' is left behind"
  done
}

# --- a success: the folder's name alone on stdout, all files there, nothing else
expect 0 "$demo" --double-quant
[[ $(cat out) == ./demo-nf4-dq ]] || fail "stdout is '$(cat out)'"
for file in tokenizer.model tokenizer_config.json generation_config.json; do same "$demo/$file" demo-nf4-dq/$file; done
[[ $(ls demo-nf4-dq | wc -l) == 5 ]] || fail "unexpected files: $(ls demo-nf4-dq)"
grep -q '"bnb_4bit_use_double_quant": true' demo-nf4-dq/config.json || fail "config.json lacks its block"
nothing_left demo-nf4-dq
expect 0 --bits 8 -q # no model named: the bundled one
[[ $(cat out) == ./demo-int8 && ! -s err ]] || fail "--quiet is not quiet, or stdout is '$(cat out)'"

# --- the same bytes with any number of threads and instruction set
for threads in 1 2 7; do
  for level in portable avx2 avx512; do
    QTOOL_CPU=$level "$qtool" quantize "$demo" -o same --double-quant --threads $threads >out 2>err
    code=$?
    [[ $code == 2 ]] && continue # the machine lacks it
    [[ $code == 0 ]] || fail "exit $code with QTOOL_CPU=$level"
    same same/model.safetensors demo-nf4-dq/model.safetensors
    QTOOL_CPU=$level "$qtool" quantize "$demo" -o same --bits 8 --threads $threads --force >out 2>err || fail "int8 $level"
    same same/model.safetensors demo-int8/model.safetensors
    rm -rf same
  done
done

# --- JSON, dry run, reports
expect 0 "$demo" -o json --quant-type fp4 --verify --json --report report.json --skip-modules q_proj
json 'd["schema"] == "qtool.quantize/1" and d["method"] == "fp4" and d["output"] == "json" and d["verified"]'
json 'd["tensors"] == {"quantized": 36, "kept": 20} and len(d["kept"]) == 20'
json 'all(d[key] > 0 for key in ("bytes_in", "bytes_out", "bits_per_weight", "peak_rss_bytes", "seconds", "gb_per_s"))'
json 'len(d["worst"]) == 10 and all(0.05 < row["rel_rmse"] < 0.2 for row in d["worst"])'
json '{"name": "model.layers.3.self_attn.q_proj.weight", "reason": "named by --skip-modules"} in d["kept"]'
grep -q '"rel_rmse"' report.json || fail "report.json lists no errors"
expect 0 "$demo" --dry-run --json
json 'd["dry_run"]'
planned=$(sed -E 's/.*"bytes_out":([0-9]+).*/\1/' out)
expect 0 "$demo" -o plain --json --report report.md
written=$(sed -E 's/.*"bytes_out":([0-9]+).*/\1/' out)
[[ $planned == "$written" ]] || fail "planned $planned bytes, wrote $written"
grep -q '| tensor | error |' report.md || fail "report.md has no table"
expect 0 "$demo" --dry-run
grep -q 'model.layers.#.mlp.up_proj.weight  *6 ' out || fail "the plan is not a table of patterns"
nothing_left demo-nf4-dq demo-int8 json plain report.json report.md

# --- shards, dtypes, storage
expect 0 "$demo" -o shards --max-shard-size 1MB --dtype float16 --quant-storage bfloat16
[[ -f shards/model.safetensors.index.json && ! -f shards/model.safetensors ]] || fail "no shards"
for shard in shards/model-*; do # 2 MB: the embedding does not fit and has a file of its own
  (($(stat -c %s "$shard") < 2200000)) || fail "$shard is too large"
done

# --- back to 16 bits, and again to 4
fails 2 --requantize quantize demo-nf4-dq -o again
expect 0 demo-nf4-dq -o again --requantize --verify
expect 0 demo-nf4-dq --bits 16
[[ $(cat out) == ./demo-nf4-dq-bfloat16 ]] || fail "stdout is '$(cat out)'"
grep -q quantization_config demo-nf4-dq-bfloat16/config.json && fail "config.json still says it is quantized"
expect 0 demo-nf4-dq-bfloat16 -o from16
same from16/model.safetensors again/model.safetensors

# --- usage: exit 2, nothing written
rm -rf again from16 demo-nf4-dq-bfloat16 json plain report.*
expect 2 "$demo" -o demo-int8
expect 0 "$demo" -o demo-int8 --force --bits 8
mkdir -p precious model && echo text >precious/letter && cp "$demo"/* model
expect 2 "$demo" -o precious --force
[[ -f precious/letter ]] || fail "--force deleted a folder that holds no model"
expect 2 model -o model --force
expect 2 model -o . --force
[[ -f model/config.json ]] || fail "the input was deleted"
expect 2 "$demo" -o x --bits 5
expect 2 "$demo" -o x --block-size 100
expect 2 "$demo" -o x --double-quant --bits 8
expect 2 "$demo" -o x --max-shard-size many
expect 2 "$demo" -o x --max-shard-size 0
expect 2 "$demo" -o x --max-ram lots
expect 2 "$demo" -o x --dtype int8
expect 2 "$demo" -o x --report report.txt
expect 2 "$demo" -o x --skip-modules no_such_module
expect 2 "$demo" -o x --no-such-option

# --- the other exit codes
expect 3 ./no-such-model -o x
head -c 5000000 "$demo/model.safetensors" >model/model.safetensors
expect 4 model -o x
cp "$demo/model.safetensors" model/ && sed -i 's/LlamaForCausalLM/NoSuchForCausalLM/' model/config.json
expect 5 model -o x
cp "$demo/config.json" model/
expect 6 "$demo" -o x --max-ram 1KB
expect 10 "$demo" -o no/such/folder/x
# a NaN in one weight is found by --verify
header=$(od -An -t u8 -N8 model/model.safetensors | tr -d ' ')
begin=$(head -c $((8 + header)) model/model.safetensors | tail -c +9 |
  sed -E 's/.*"model.layers.2.mlp.up_proj.weight":\{[^}]*"data_offsets":\[([0-9]+),.*/\1/')
printf '\300\177' | dd of=model/model.safetensors bs=1 seek=$((8 + header + begin + 100)) conv=notrunc status=none
run 9 quantize model -o x --verify
err_has model.layers.2.mlp.up_proj.weight
out_is_empty
nothing_left demo-nf4-dq demo-int8 shards precious model
# a disk that is too small, where this user may make one
mkdir small
if mount -t tmpfs -o size=1m none small 2>/dev/null; then
  expect 10 "$demo" -o small/x
  err_has ' bytes of disk space'
  [[ -z $(ls -A small) ]] || fail "something is left on the full disk"
  umount small
fi
rmdir small

# --- Ctrl-C: exit 130, nothing left. The input is one huge sparse file: three matrices of 1024 x 1048576 zeros.
mkdir huge
sed -E 's/("hidden_size": )[0-9]+/\11024/; s/("intermediate_size": )[0-9]+/\11048576/; s/("num_hidden_layers": )[0-9]+/\11/;
  s/("num_attention_heads": )[0-9]+/\11/; s/("num_key_value_heads": )[0-9]+/\11/; s/("head_dim": )[0-9]+/\164/;
  s/("vocab_size": )[0-9]+/\116/' "$demo/config.json" >huge/config.json
offset=0 text='{'
add() { # NAME ROWS [COLUMNS]
  local size=$((2 * $2 * ${3:-1}))
  text+="\"model.$1.weight\":{\"dtype\":\"BF16\",\"shape\":[$2${3:+,$3}],\"data_offsets\":[$offset,$((offset + size))]},"
  offset=$((offset + size))
}
add embed_tokens 16 1024
add norm 1024
for norm in input post_attention; do add layers.0.${norm}_layernorm 1024; done
for linear in q k v; do add layers.0.self_attn.${linear}_proj 64 1024; done
add layers.0.self_attn.o_proj 1024 64
for linear in gate up; do add layers.0.mlp.${linear}_proj 1048576 1024; done
add layers.0.mlp.down_proj 1024 1048576
safetensors huge/model.safetensors "${text%,}}" $offset
"$qtool" quantize huge -o x --threads 1 >out 2>err &
process=$!
for _ in {1..100}; do # until it writes
  compgen -G '.x.*' >/dev/null && break
  sleep 0.05
done
kill -INT $process
wait $process
code=$?
[[ $code == 130 ]] || fail "exit $code instead of 130 after SIGINT"
[[ ! -s out ]] || fail "stdout is not empty after SIGINT"
nothing_left demo-nf4-dq demo-int8 shards precious model huge

finish
