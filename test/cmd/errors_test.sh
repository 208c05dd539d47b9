#!/usr/bin/env bash
# Every exit code that can be provoked from outside: 2 to 10 and 130. (1 would be a bug of qtool.)
source "$(dirname "$0")/lib.sh"

# A tiny checkpoint whose files a case then spoils: fresh DIR
tiny='{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
fresh() {
  rm -rf "$work/model"
  mkdir "$work/model"
  echo '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}' >"$work/model/config.json"
  safetensors "$work/model/model.safetensors" "$tiny" 24
}
model=$work/model

# --- 2 usage
fails 2 "ask for one" inspect --verify --hash
fails 2 "--tensor NAME" inspect --stats
fails 2 "--context" footprint --context -1
fails 2 "--budget must be a size" footprint --budget lots
fails 2 "--double-quant is for 4-bit" footprint --bits 8 --double-quant
fails 2 "--block-size must be one of" footprint --block-size 65
fails 2 "--quant-type must be" footprint --quant-type int4
fails 2 "--kv-dtype" footprint --kv-dtype int3
fails 2 "" footprint --skip-modules no_such_module

# --- 3 not found
fails 3 "/nowhere does not exist" inspect /nowhere
fails 3 "no tensor matches" inspect --tensors 'nothing.*'
fails 3 "there is no tensor 'up_proj'" inspect --tensor up_proj
mkdir "$work/empty"
fails 3 "config.json" inspect "$work/empty"
fresh
rm "$model/model.safetensors"
fails 3 "" inspect "$model"
fresh
mv "$model/model.safetensors" "$model/model-00001-of-00002.safetensors"
echo '{"weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}}' \
  >"$model/model.safetensors.index.json"
fails 3 "model-00002-of-00002.safetensors" inspect "$model"

# --- 4 malformed
fresh
echo '{"a": 1, "a": 2}' >"$model/config.json"
fails 4 "duplicate key" inspect "$model"
fresh
echo '{"a": ' >"$model/config.json"
fails 4 "config.json" inspect "$model"
malformed() {  # TEXT HEADER BYTES
  fresh
  safetensors "$model/model.safetensors" "$2" "$3"
  fails 4 "$1" inspect "$model" --tensors
}
malformed "cut off" '{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}' 20
malformed "" '{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}' 30
malformed "a.weight" '{"a.weight":{"dtype":"F32","shape":[2,4],"data_offsets":[0,24]}}' 24
malformed "a.weight" '{"a.weight":{"dtype":"F32","shape":[-2,-3],"data_offsets":[0,24]}}' 24
malformed "a.weight" '{"a.weight":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,24]}}' 24
malformed "" '{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}}' 24
malformed "" '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}' 12
malformed "" '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}' 16
malformed "" '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}' 8
malformed "" '[]' 0
fresh
printf '\xff\xff\xff\xff\xff\xff\xff\x7f{}' >"$model/model.safetensors"
fails 4 "" inspect "$model"
fresh
printf 'abc' >"$model/model.safetensors"
fails 4 "" inspect "$model"
fresh
: >"$model/model.safetensors"
fails 4 "" inspect "$model"
fresh
mv "$model/model.safetensors" "$model/model-00001-of-00001.safetensors"
echo '{"weight_map": {"b.weight": "model-00001-of-00001.safetensors"}}' >"$model/model.safetensors.index.json"
fails 4 "" inspect "$model"
fresh
mv "$model/model.safetensors" "$work/outside.safetensors"
echo '{"weight_map": {"a.weight": "../outside.safetensors"}}' >"$model/model.safetensors.index.json"
fails 4 "" inspect "$model"

# --- 5 unsupported
fresh
echo '{"architectures": ["NoSuchModelForCausalLM"], "model_type": "none"}' >"$model/config.json"
fails 5 "NoSuchModelForCausalLM" footprint "$model"
run 0 inspect "$model"  # but it can be looked at
out_has "a.weight"
malformed_dtype='{"a.weight":{"dtype":"F7","shape":[2,3],"data_offsets":[0,24]}}'
fresh
safetensors "$model/model.safetensors" "$malformed_dtype" 24
fails 5 "F7" inspect "$model"
fresh
rm "$model/model.safetensors"
: >"$model/model.gguf"
fails 5 "model.gguf" inspect "$model"

# --- 6 memory
run 6 footprint --budget 1MB
out_has "nf4-dq"  # the table is still there
err_has "over --budget 1MB"
run 6 footprint --bits 4 --budget 1MB --json
json 'd["schemes"][0]["fits"] is False and d["budget_bytes"] == 1000000'

mkdir "$work/long"
cp "$demo"/* "$work/long"
sed -i 's/"max_position_embeddings": 512/"max_position_embeddings": 1000000000/' "$work/long/config.json"
fails 6 "1000000000" generate "$work/long" --context 1000000000 -p x -n 1 --device cpu

# --- 7 device
command -v nvidia-smi >/dev/null || fails 7 "--device cpu" generate --device cuda -p x

# --- 8 network: nobody listens there
HF_HOME=$work/hf HF_ENDPOINT=http://127.0.0.1:9 fails 8 "127.0.0.1" pull some/model --quiet

# --- 9 verification
mkdir "$work/other"
cp "$demo"/* "$work/other"
run 0 inspect --diff "$work/other"
printf '\x01' | dd of="$work/other/model.safetensors" bs=1 seek=5000000 conv=notrunc status=none
run 9 inspect --diff "$work/other"
out_has "1 differ"
printf '\xc0\x7f' | dd of="$work/other/model.safetensors" bs=1 seek=5000000 conv=notrunc status=none
run 9 inspect "$work/other" --verify
out_has "1 NaN"
err_is_one_line

# --- 10 read and write
"$qtool" inspect >/dev/full 2>"$work/err"
[[ $? == 10 ]] || complain "full disk on stdout"
grep -q "No space left" "$work/err" || complain "full disk: $(cat "$work/err")"
: >"$work/file"
fails 10 "" quantize -o "$work/file/out" -q

# --- 130 interrupted: a file far larger than can be hashed before the signal comes
fresh
size=$((1 << 36))
safetensors "$model/model.safetensors" "{\"a.weight\":{\"dtype\":\"U8\",\"shape\":[$size],\"data_offsets\":[0,$size]}}" $size
"$qtool" inspect "$model" --hash >"$work/out" 2>"$work/err" &
job=$!
sleep 0.5
kill -INT $job
wait $job
[[ $? == 130 ]] || complain "interrupt: not 130"
said="interrupted --hash"
err_has "interrupted"
out_is_empty

finish
