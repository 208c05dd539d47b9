#!/usr/bin/env bash
# qtool inspect on the demo model, on what qtool makes of it, and on checkpoints that bitsandbytes wrote.
source "$(dirname "$0")/lib.sh"

# --- the summary
run 0 inspect
for text in LlamaForCausalLM "5,475,584" "model.layers.#.mlp.up_proj.weight" "x6" "BF16" "[704, 256]" Tokenizer "4,096" \
  "model.safetensors" "none without reading the weights"; do
  out_has "$text"
done
run 0 inspect --json
json 'd["schema"] == "qtool.inspect/1"'
json 'd["model"]["architecture"] == "LlamaForCausalLM" and d["model"]["layers"] == 6 and d["model"]["kv_heads"] == 2'
json 'd["quantization"] is None and d["problems"] == []'
json '[r["count"] for r in d["layers"] if r["pattern"] == "model.layers.#.mlp.up_proj.weight"] == [6]'
json 'sum(c["bytes"] for c in d["sizes"]) == sum(r["bytes"] for r in d["layers"])'
json 'sum(c["parameters"] for c in d["sizes"]) == d["model"]["parameters"] == 5475584'
json '[c["class"] for c in d["sizes"]][0] == "mlp"'
json 'd["tokenizer"]["vocab_size"] == 4096 and d["tokenizer"]["eos_id"] == 2'

# --- tensors
run 0 inspect --tensors --json
json 'len(d["tensors"]) == 56'
run 0 inspect "$demo" --tensors 'model.layers.?.self_attn.q_proj.*'
[[ $(wc -l <"$work/out") == 7 ]] || complain "$said: $(wc -l <"$work/out") lines"
run 0 inspect --tensor model.norm.weight --stats --hist --json
json 'd["tensor"]["stats"]["count"] == 256 and d["tensor"]["stats"]["nan"] == 0'
json 'd["tensor"]["stats"]["min"] <= d["tensor"]["stats"]["mean"] <= d["tensor"]["stats"]["max"]'
json 'sum(d["tensor"]["histogram"]["counts"]) == 256'
run 0 inspect --tensor model.norm.weight --stats --hist
out_has "absmax"
out_has "###"

# --- statistics and hashes, computed by somebody else
if python ''; then
  run 0 inspect --tensor model.layers.3.mlp.down_proj.weight --stats --json
  python '
import array, json, math, sys
t = json.load(open(sys.argv[1]))["tensor"]
raw = open(sys.argv[2] + "/" + t["file"], "rb").read()[t["offset"]:t["offset"] + t["bytes"]]
bits = array.array("H", raw)
values = array.array("f", array.array("I", (b << 16 for b in bits)).tobytes())
s = t["stats"]
near = lambda a, b: abs(a - b) <= 1e-9 + 1e-9 * abs(b)
assert s["count"] == len(values) and s["min"] == min(values) and s["max"] == max(values)
assert near(s["mean"], math.fsum(values) / len(values))
assert near(s["rms"], math.sqrt(math.fsum(v * v for v in values) / len(values)))
' "$work/out" "$demo" || complain "$said: not what Python computes"
  run 0 inspect --hash --json
  cp "$work/out" "$work/hash"
  run 0 inspect --tensors --json
  python '
import hashlib, json, sys
hashes = json.load(open(sys.argv[1]))["hash"]
raw = open(sys.argv[3] + "/model.safetensors", "rb").read()
lines = ""
for t in json.load(open(sys.argv[2]))["tensors"]:
    digest = hashlib.sha256(raw[t["offset"]:t["offset"] + t["bytes"]]).hexdigest()
    assert hashes["tensors"][t["name"]] == digest, t["name"]
    lines += "%s %s [%s] %s\n" % (t["name"], t["dtype"], ", ".join(map(str, t["shape"])), digest)
assert hashes["whole"] == hashlib.sha256(lines.encode()).hexdigest()
' "$work/hash" "$work/out" "$demo" || complain "--hash: not what Python computes"
fi
run 0 inspect --hash
[[ $(wc -l <"$work/out") == 57 ]] || complain "$said: $(wc -l <"$work/out") lines"

# --- verify: whole checkpoints
run 0 inspect --verify
out_has "ok: 56 tensors, 0 quantized weights"
err_is_empty
for scheme in "nf4 --quant-type nf4" "nf4-dq --double-quant" "fp4 --quant-type fp4" "int8 --bits 8"; do
  read -r name options <<<"$scheme"
  # shellcheck disable=SC2086
  run 0 quantize "$demo" $options -o "$work/$name" --quiet
  run 0 inspect "$work/$name" --verify --json
  json 'd["verify"]["ok"] and d["verify"]["quantized"] == 42 and d["verify"]["problems"] == []'
  run 0 inspect "$work/$name" --json
  json "d['quantization']['scheme'] == '$name' and d['quantization']['forms'] == {'$name': 42}"
done
run 0 quantize "$demo" --double-quant --max-shard-size 200KB -o "$work/sharded" --quiet
run 0 inspect "$work/sharded" --verify
out_has "note: pieces in several shards"
out_has "ok: 266 tensors, 42 quantized weights"
run 9 inspect "$work/sharded" --diff "$demo" --json
run 0 inspect "$work/sharded" --diff "$work/nf4-dq" --json
json 'd["diff"]["identical"] == 56'
run 0 inspect "$work/nf4-dq" --tensor model.layers.0.mlp.up_proj.weight --stats --hist --json
json 'd["tensor"]["logical_shape"] == [704, 256] and sum(d["tensor"]["codes"]) == 704 * 256'
json 'd["tensor"]["stats"]["count"] == 704 * 256 and d["tensor"]["scales"]["count"] == 11'
run 0 inspect "$work/nf4-dq" --tensor model.layers.0.mlp.up_proj.weight --hist
out_has "+0.562617"
run 0 inspect "$work/int8" --tensor model.layers.0.mlp.up_proj.weight --hist
out_has "-128 to -113"

# --- diff
run 0 inspect "$work/nf4" --diff "$work/nf4"
out_has "56 tensors identical, 0 differ"
run 9 inspect "$demo" --diff "$work/nf4" --json
json 'd["diff"]["identical"] == 14 and len(d["diff"]["differing"]) == 42'
json 'all(0.05 < r["rel_rmse"] < 0.15 for r in d["diff"]["differing"])'
json '[c["key"] for c in d["diff"]["config"]] == ["quantization_config"]'
err_is_empty

# --- verify: checkpoints that somebody damaged
spoil() {  # CODE TEXT FOLDER PYTHON: the snippet changes `config` (a dict) or `header` (name -> entry) and `data`
  rm -rf "$work/spoilt"
  cp -r "$work/$3" "$work/spoilt"
  python '
import json, struct, sys
folder = sys.argv[1]
config = json.load(open(folder + "/config.json"))
raw = open(folder + "/model.safetensors", "rb").read()
length = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + length])
data = bytearray(raw[8 + length:])
tensors = {k: (v["dtype"], v["shape"], bytes(data[slice(*v["data_offsets"])])) for k, v in header.items() if k != "__metadata__"}
up = "model.layers.0.mlp.up_proj.weight"
quantization = config.get("quantization_config")
exec(sys.argv[2])
header, data = {"__metadata__": {"format": "pt"}}, b""
for name, (dtype, shape, content) in tensors.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
    data += content
text = json.dumps(header).encode()
open(folder + "/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
json.dump(config, open(folder + "/config.json", "w"))
' "$work/spoilt" "$4" || return 0
  run "$1" inspect "$work/spoilt" --verify
  out_has "$2"
  [[ $1 == 0 ]] || err_is_one_line
}
spoil 4 "lacks model.layers.0.mlp.up_proj.weight.absmax" nf4 'del tensors[up + ".absmax"]'
spoil 4 "lacks model.layers.0.mlp.up_proj.weight.quant_map" nf4 'del tensors[up + ".quant_map"]'
spoil 4 "lacks model.layers.0.mlp.up_proj.weight.nested_absmax" nf4-dq 'del tensors[up + ".nested_absmax"]'
spoil 4 "lacks model.layers.0.mlp.up_proj.weight.quant_state" nf4 'del tensors[up + ".quant_state.bitsandbytes__nf4"]'
spoil 4 "lacks model.layers.0.mlp.up_proj.SCB" int8 'del tensors[up[:-7] + ".SCB"]'
spoil 4 "which is not there" nf4 'del tensors[up]'
spoil 4 "where F32 [2816] is due" nf4 'tensors[up + ".absmax"] = ("F32", [2815], bytes(4 * 2815))'
spoil 4 "announces fp4" nf4 'quantization["bnb_4bit_quant_type"] = "fp4"'
spoil 4 "announces nf4-dq" nf4 'quantization["bnb_4bit_use_double_quant"] = True'
spoil 4 "bnb_4bit_quant_storage" nf4 'quantization["bnb_4bit_quant_storage"] = "bfloat16"'
spoil 4 "has no quantization_config" nf4 'del config["quantization_config"]'
spoil 4 "llm_int8_skip_modules names" nf4 'quantization["llm_int8_skip_modules"] = ["lm_head", "up_proj"]'
spoil 4 "one of transformers 4 and 5" nf4 'quantization["llm_int8_skip_modules"] = ["lm_head", "model.layers.0.mlp.up"]'
spoil 4 "stored unquantized" nf4 '
for name in [n for n in tensors if n.startswith(up + ".")]: del tensors[name]
tensors[up] = ("BF16", [704, 256], bytes(2 * 704 * 256))'
spoil 5 "unsupported: " nf4 'quantization["quant_method"] = "gptq"'
spoil 9 "1 NaN" nf4 'tensors[up + ".absmax"] = ("F32", [2816], b"\0\0\xc0\x7f" + tensors[up + ".absmax"][2][4:])'
spoil 9 "1 infinite" nf4 'n = "model.norm.weight"; tensors[n] = ("BF16", [256], b"\x80\x7f" + tensors[n][2][2:])'
spoil 0 "note: no weight_format" int8 'del tensors[up[:-7] + ".weight_format"]'
spoil 0 "not part of a LlamaForCausalLM" nf4 'tensors["model.layers.0.visitor"] = ("F32", [1], bytes(4))'

# --- what bitsandbytes wrote
if [[ -d $shared/golden ]]; then
  for folder in "$shared"/golden/llama_* "$shared"/golden/base_llama_*; do
    run 0 inspect "$folder" --verify
    run 0 inspect "$folder" --json
  done
  run 0 inspect "$shared/golden/llama_nf4dq_bf16st_bfloat16" --json
  json 'd["quantization"]["forms"] == {"nf4-dq": 14} and d["quantization"]["storage"] == "bfloat16"'
  run 0 inspect "$shared/golden/llama_int8_bfloat16" --json
  json 'd["quantization"]["scheme"] == "int8" and d["quantization"]["threshold"] == 6.0'
  run 0 inspect "$shared/golden/llama_nf4dq_bfloat16_sharded" --json
  json 'len(d["files"]) == 8 and not any("several shards" in p["message"] for p in d["problems"])'
else
  echo "SKIPPED: $shared/golden is not there" >&2
fi

finish
