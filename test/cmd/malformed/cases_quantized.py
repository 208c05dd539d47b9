"""Quantized checkpoints whose pieces, statistics or configuration lie; and values that are no numbers."""

import json
import struct

from spoil import config, dropped, json_file, put, renamed, tensor, tensors

MODEL = "verify footprint quantize-16 generate"
READS = "verify generate"
MODULE = "model.layers.0.mlp.up_proj"
WEIGHT = MODULE + ".weight"
STATE = WEIGHT + ".quant_state.bitsandbytes__nf4"


def state(edit):
    """Edits the packed JSON of one weight's quant_state; what `edit` returns replaces it: a document or bytes."""

    def spoil(named):
        dtype, _, raw = named[STATE]
        document = json.loads(raw)
        edited = edit(document)
        if not isinstance(edited, bytes):
            edited = json.dumps(document if edited is None else edited).encode()
        named[STATE] = (dtype, [len(edited)], edited)

    return tensors(spoil)


def stated(**changes):
    return state(lambda document: put(document, changes))


def quantization(**changes):
    return json_file("config.json", lambda document: put(document["quantization_config"], changes))


def value_at(name, index, form, value):
    """Overwrites one number of a tensor."""
    at = index * struct.calcsize(form)
    return tensor(name, raw=lambda raw: raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form):])


NAN16, INF16 = 0x7FC0, 0x7F80  # bfloat16

CASES = [
    # --- quantization_config
    ("quantization_list", "nf4", config(quantization_config=[]), 4, "must be an object", MODEL),
    ("quantization_by_another", "nf4", quantization(quant_method="gptq"), 5, "gptq", MODEL),
    ("quantization_by_nobody", "nf4", config(quantization_config={}), 4, "quant_method", MODEL),
    ("quantization_of_both", "nf4", quantization(load_in_8bit=True), 4, "exactly one of", MODEL),
    ("quantization_of_neither", "nf4", quantization(load_in_4bit=False), 4, "exactly one of", MODEL),
    ("quantization_flag_text", "nf4", quantization(load_in_4bit="yes"), 4, "must be true or false", MODEL),
    ("quantization_type_unknown", "nf4", quantization(bnb_4bit_quant_type="nf3\x1b"), 4, "nf3\\x1b", MODEL),
    ("quantization_compute_int", "nf4", quantization(bnb_4bit_compute_dtype="int8"), 4, "compute_dtype", MODEL),
    ("quantization_storage_unknown", "nf4", quantization(bnb_4bit_quant_storage="int64"), 4, "quant_storage", MODEL),
    ("quantization_threshold_integer", "int8", quantization(llm_int8_threshold=6), 4, "decimal point", MODEL),
    ("quantization_threshold_negative", "int8", quantization(llm_int8_threshold=-1.0), 4, "must not be negative", MODEL),
    ("quantization_threshold_huge", "int8", quantization(llm_int8_threshold=1e300), 4, "llm_int8_threshold", MODEL),
    ("quantization_skips_text", "nf4", quantization(llm_int8_skip_modules="lm_head"), 4, "list of strings", MODEL),
    ("quantization_skips_numbers", "nf4", quantization(llm_int8_skip_modules=[1]), 4, "list of strings", MODEL),
    ("quantization_of_other_type", "nf4", quantization(bnb_4bit_quant_type="fp4"), 4, "announces", "verify"),
    ("quantization_says_nested", "nf4", quantization(bnb_4bit_use_double_quant=True), 4, "announces", "verify"),
    ("quantization_not_announced", "nf4", config(quantization_config=None), 4, "no quantization_config", "verify"),
    ("quantization_of_nothing", "plain", config(quantization_config={"load_in_4bit": True}), 4, "no weight is stored", "verify"),
    ("quantization_skips_quantized", "nf4", quantization(llm_int8_skip_modules=["lm_head", "up_proj"]), 4,
     "stored quantized", "verify"),
    ("quantization_skips_forgotten", "nf4", quantization(llm_int8_skip_modules=["model.norm"]), 4, "lm_head", "verify"),
    # --- quant_state
    ("state_missing", "nf4", dropped(STATE), 4, "quant_state", MODEL),
    ("state_empty", "nf4", state(lambda s: b""), 4, "quant_state", MODEL),
    ("state_cut_off", "nf4", state(lambda s: json.dumps(s).encode()[:40]), 4, "quant_state", MODEL),
    ("state_binary", "nf4", state(lambda s: bytes(range(128, 192))), 4, "quant_state", MODEL),
    ("state_list", "nf4", state(lambda s: b"[]"), 4, "must be", MODEL),
    ("state_deep", "nf4", state(lambda s: b"[" * 4000), 4, "nested deeper", MODEL),
    ("state_huge", "nf4", state(lambda s: b" " * 100_000), 4, "bytes", MODEL),
    ("state_of_floats", "nf4", tensor(STATE, dtype="F32", shape=[4], raw=b"0" * 16), 4, "quant_state", MODEL),
    ("state_unknown_key", "nf4", stated(reduce="os.system"), 4, "unknown key 'reduce'", MODEL),
    ("state_duplicate_key", "nf4", state(lambda s: b'{"blocksize": 64, "blocksize": 64}'), 4, "duplicate key", MODEL),
    ("state_of_other_type", "nf4", stated(quant_type="fp4"), 4, "quant_", MODEL),
    ("state_of_both_types", "nf4", tensors(lambda t: t.update({STATE[:-3] + "fp4": t[STATE]})), 4, "", MODEL),
    ("state_of_unknown_type", "nf4", renamed(STATE, STATE[:-3] + "nf3"), 5, "no known form", "footprint quantize-16 generate"),
    ("blocksize_zero", "nf4", stated(blocksize=0), 4, "block", MODEL),
    ("blocksize_negative", "nf4", stated(blocksize=-64), 4, "block", MODEL),
    ("blocksize_three", "nf4", stated(blocksize=3), 4, "block", MODEL),
    ("blocksize_2_31", "nf4", stated(blocksize=1 << 31), 4, "block", MODEL),
    ("blocksize_fraction", "nf4", stated(blocksize=64.0), 4, "must be an integer", MODEL),
    ("blocksize_missing", "nf4", stated(blocksize=...), 4, "blocksize", MODEL),
    ("blocksize_double", "nf4", stated(blocksize=128), 4, "absmax", MODEL),
    ("state_dtype_unknown", "nf4", stated(dtype="float8"), 4, "dtype", MODEL),
    ("state_dtype_missing", "nf4", stated(dtype=...), 4, "'dtype'", MODEL),
    ("state_shape_missing", "nf4", stated(shape=...), 4, "shape", MODEL),
    ("state_shape_of_three", "nf4", stated(shape=[128, 8, 8]), 4, "shape", MODEL),
    ("state_shape_negative", "nf4", stated(shape=[-128, -64]), 4, "shape", MODEL),
    ("state_shape_fraction", "nf4", stated(shape=[128.0, 64]), 4, "shape", MODEL),
    ("state_shape_zero", "nf4", stated(shape=[0, 64]), 4, "up_proj", MODEL),
    ("state_shape_2_63", "nf4", stated(shape=[1 << 63, 2]), 4, "shape", MODEL),
    ("state_shape_wraps", "nf4", stated(shape=[1 << 32, 1 << 32]), 4, "shape", MODEL),
    ("state_shape_larger", "nf4", stated(shape=[256, 64]), 4, "8192", MODEL),
    ("state_shape_transposed", "nf4", stated(shape=[64, 128]), 4, "by config.json it is", MODEL),
    # --- the pieces
    ("packed_cut", "nf4", tensor(WEIGHT, shape=[4000, 1], raw=lambda raw: raw[:4000]), 4, "4096", MODEL),
    ("packed_of_integers", "nf4", tensor(WEIGHT, dtype="I64", shape=[512]), 4, "I64", MODEL),
    ("packed_missing", "nf4", dropped(WEIGHT), 4, "up_proj", MODEL),
    ("absmax_missing", "nf4", dropped(WEIGHT + ".absmax"), 4, "absmax", MODEL),
    ("absmax_too_few", "nf4", tensor(WEIGHT + ".absmax", shape=[127], raw=lambda raw: raw[:-4]), 4, "absmax", MODEL),
    ("absmax_too_many", "nf4", tensor(WEIGHT + ".absmax", shape=[129], raw=lambda raw: raw + b"1234"), 4, "absmax", MODEL),
    ("absmax_of_bytes", "nf4", tensor(WEIGHT + ".absmax", dtype="U8", shape=[512]), 4, "absmax", MODEL),
    ("quant_map_missing", "nf4", dropped(WEIGHT + ".quant_map"), 4, "quant_map", MODEL),
    ("quant_map_of_15", "nf4", tensor(WEIGHT + ".quant_map", shape=[15], raw=lambda raw: raw[:-4]), 4, "quant_map", MODEL),
    ("nested_absmax_missing", "nested", dropped(WEIGHT + ".nested_absmax"), 4, "nested_absmax", MODEL),
    ("nested_map_missing", "nested", dropped(WEIGHT + ".nested_quant_map"), 4, "nested_quant_map", MODEL),
    ("nested_absmax_too_many", "nested", tensor(WEIGHT + ".nested_absmax", shape=[2], raw=lambda raw: raw * 2), 4,
     "nested_absmax", MODEL),
    ("nested_blocksize_zero", "nested", stated(nested_blocksize=0), 5, "nested block size 0", "footprint quantize-16 generate"),
    ("nested_blocksize_missing", "nested", stated(nested_blocksize=...), 4, "up_proj", MODEL),
    ("nested_offset_missing", "nested", stated(nested_offset=...), 4, "nested_offset", MODEL),
    ("nested_offset_huge", "nested", stated(nested_offset=1e300), 4, "finite", MODEL),
    ("nested_offset_text", "nested", stated(nested_offset="nan"), 4, "finite", MODEL),
    ("nested_said_by_nobody", "nested", stated(nested_offset=..., nested_blocksize=..., nested_dtype=...), 4, "", MODEL),
    ("scb_missing", "int8", dropped(MODULE + ".SCB"), 4, "SCB", MODEL),
    ("scb_too_few", "int8", tensor(MODULE + ".SCB", shape=[127], raw=lambda raw: raw[:-4]), 4, "SCB", MODEL),
    ("scb_of_half", "int8", tensor(MODULE + ".SCB", dtype="F16", shape=[256]), 4, "SCB", MODEL),
    ("int8_weight_of_bf16", "int8", tensor(WEIGHT, dtype="BF16", shape=[64, 64]), 4, "up_proj", MODEL),
    ("int8_format_turing", "int8", tensors(lambda t: t.update({MODULE + ".weight_format": ("U8", [], b"\2")})), 5,
     "col_turing", "footprint quantize-16 generate"),
    ("int8_and_absmax", "int8", tensors(lambda t: t.update({WEIGHT + ".absmax": ("F32", [1], b"\0" * 4)})), 4, "absmax", MODEL),
    ("statistic_of_nothing", "nf4", tensors(lambda t: t.update({"x\x1b[2J.weight.absmax": ("F32", [1], b"\0" * 4)})), 4,
     "x\\x1b[2J",
     "verify footprint quantize-16"),
    # --- values: found by those who read them all
    ("nan_in_norm", "plain", value_at("model.norm.weight", 7, "<H", NAN16), 9, "model.norm.weight", "verify quantize-verify"),
    ("nan_in_linear", "plain", value_at("model.layers.1.mlp.down_proj.weight", 4321, "<H", NAN16), 9, "index 4321",
     "verify quantize-verify"),
    ("infinity_in_linear", "plain", value_at("model.layers.1.mlp.down_proj.weight", 1234, "<H", INF16), 9, "index 1234",
     "verify quantize-verify"),
    ("infinity_in_embedding", "plain", value_at("model.embed_tokens.weight", 11, "<H", INF16 | 0x8000), 9, "index 11",
     "verify quantize-verify"),
    ("nan_in_absmax", "nf4", value_at(WEIGHT + ".absmax", 3, "<I", 0x7FC00000), 9, "index 3", "verify"),
    ("infinity_in_nested_absmax", "nested", value_at(WEIGHT + ".nested_absmax", 0, "<I", 0x7F800000), 9, "index 0", "verify"),
    ("nan_in_scb", "int8", value_at(MODULE + ".SCB", 5, "<I", 0x7FC00000), 9, "index 5", "verify"),
    ("nan_in_quant_map", "nf4", value_at(WEIGHT + ".quant_map", 5, "<I", 0x7FC00000), 9, "quant_map", "verify"),
]
