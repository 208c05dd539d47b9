"""Files of tensors: headers, offsets, indexes, archives. (name, base, spoil, exit code, words, commands)"""

import json
import os
import struct

import good
from spoil import (SAFE, archive, content, header, header_bytes, json_file, keys, pickled, raw_file, removed, renamed,
                   replaced, row, tensors)

ALL = "inspect footprint quantize generate"
EMBED, NORM, LAST = "model.embed_tokens.weight", "model.norm.weight", "model.layers.1.self_attn.v_proj.weight"
INDEX = "model.safetensors.index.json"
FIRST_SHARD, SECOND_SHARD = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def length_word(value):
    return raw_file(lambda raw: struct.pack("<Q", value) + raw[8:])


def weight_map(edit):
    return json_file(INDEX, lambda index: edit(index["weight_map"]))


def data_of(extents, dtype="BF16"):
    return lambda h: h.update({"x": {"dtype": dtype, "shape": extents, "data_offsets": [0, 0]}})


def nested(depth):
    return "[" * depth + "]" * depth


def many_values(folder):
    """A header within the format's bounds whose values would take gigabytes."""
    text = '{"x":[' + "[]," * 3_000_000 + "0]}"
    (folder / SAFE).write_bytes(good.with_header(text, b""))


def many_tensors(folder):
    rows = ",".join(f'"t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(300_000))
    (folder / SAFE).write_bytes(good.with_header("{" + rows + "}", b""))


def huge_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(good.torch_file(b"\x80\x02" + b"]" * 5_000_000 + b"."))


def overlapping_members(folder):
    """Every record of the directory names the same bytes: what unpacks them all never ends."""
    raw = bytearray(good.torch_file())
    mark, at, first = b"PK\x01\x02", -1, None
    while (at := raw.find(mark, at + 1)) >= 0:
        if first is None:
            first = raw[at + 42:at + 46]
        raw[at + 42:at + 46] = first
    (folder / "pytorch_model.bin").write_bytes(raw)


def directory_field(offset, form, value):
    """Sets a field of the end record."""

    def edit(raw):
        end = raw.rfind(b"PK\x05\x06") + offset
        return raw[:end] + struct.pack(form, value) + raw[end + struct.calcsize(form):]

    return raw_file(edit, "pytorch_model.bin")


def record_field(offset, form, value):
    """Sets a field of the directory's first record."""

    def edit(raw):
        at = raw.find(b"PK\x01\x02") + offset
        return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form):]

    return raw_file(edit, "pytorch_model.bin")


GLOBAL = b"\x80\x02c%s\n(X\x01\x00\x00\x00atR."

CASES = [
    # --- the length word and the text of the header
    ("empty_file", "plain", content(SAFE, b""), 4, "only 0 bytes", ALL),
    ("seven_bytes", "plain", content(SAFE, b"1234567"), 4, "only 7 bytes", ALL),
    ("no_header", "plain", content(SAFE, struct.pack("<Q", 0)), 4, "does not begin with '{'", ALL),
    ("header_beyond_file", "plain", length_word(1 << 24), 4, "cut off: the header ends", ALL),
    ("header_beyond_limit", "plain", length_word(100_000_001), 4, "more than", ALL),
    ("header_of_2_63", "plain", length_word(1 << 63), 4, "more than", ALL),
    ("header_of_minus_1", "plain", length_word((1 << 64) - 1), 4, "more than", ALL),
    ("header_too_short", "plain", length_word(40), 4, "header:", ALL),
    ("header_is_list", "plain", header(lambda h: [h]), 4, "does not begin with '{'", ALL),
    ("header_begins_with_space", "plain", header_bytes(lambda t: b" " + t), 4, "does not begin with '{'", ALL),
    ("header_with_bom", "plain", header_bytes(lambda t: b"\xef\xbb\xbf" + t), 4, "does not begin with '{'", ALL),
    ("header_zero_padded", "plain", header_bytes(lambda t: t.rstrip() + b"\0" * 8), 4, "header:", ALL),
    ("header_twice", "plain", header_bytes(lambda t: t.rstrip() + t), 4, "header:", ALL),
    ("header_cut_in_string", "plain", header_bytes(lambda t: t[:30]), 4, "header:", ALL),
    ("header_not_utf8", "plain", header_bytes(lambda t: t.replace(b"model.norm", b"model.\xff\xfe", 1)), 4, "UTF-8", ALL),
    ("header_overlong_utf8", "plain", header_bytes(lambda t: t.replace(b"model.norm", b"model\xc0\xaenorm", 1)), 4,
     "UTF-8", ALL),
    ("header_lone_surrogate", "plain", header_bytes(lambda t: t.replace(b"model.norm", b"\\ud800", 1)), 4, "header:", ALL),
    ("header_comment", "plain", header_bytes(lambda t: b"{/**/" + t[1:]), 4, "header:", ALL),
    ("header_trailing_comma", "plain", header_bytes(lambda t: t.rstrip()[:-1] + b",}"), 4, "header:", ALL),
    ("header_deep", "plain", header(lambda h: '{"x":' + nested(100_000) + "}"), 4, "nested deeper than", ALL),
    ("header_deep_objects", "plain", header(lambda h: '{"x":' * 100_000 + "0" + "}" * 100_000), 4, "nested deeper", ALL),
    ("header_of_many_values", "plain", many_values, 4, "more than", "inspect quantize"),
    ("header_of_many_tensors", "plain", many_tensors, 4, "more than", "inspect quantize"),
    ("header_empty", "plain", header(lambda h: "{}"), 4, "belong to no tensor", ALL),
    ("same_key_twice", "plain", header_bytes(lambda t: t.replace(NORM.encode(), EMBED.encode(), 1)), 4,
     "duplicate key", ALL),
    ("same_field_twice", "plain", header_bytes(lambda t: t.replace(b'{"dtype": "BF16"', b'{"dtype": "F32", "dtype": "BF16"', 1)),
     4, "duplicate key 'dtype'", ALL),
    ("metadata_of_numbers", "plain", header(lambda h: h.update(__metadata__={"format": 1})), 4, "__metadata__", ALL),
    ("metadata_is_list", "plain", header(lambda h: h.update(__metadata__=["pt"])), 4, "__metadata__", ALL),
    # --- one tensor
    ("tensor_is_null", "plain", header(lambda h: h.update({NORM: None})), 4, "has no dtype", ALL),
    ("tensor_without_shape", "plain", row(NORM, shape=...), 4, "has no shape", ALL),
    ("tensor_without_offsets", "plain", row(NORM, data_offsets=...), 4, "has no data_offsets", ALL),
    ("dtype_unknown", "plain", row(NORM, dtype="F7"), 5, "'F7'", ALL),
    ("dtype_lower_case", "plain", row(NORM, dtype="bf16"), 5, "'bf16'", ALL),
    ("dtype_number", "plain", row(NORM, dtype=16), 4, "dtype that is no string", ALL),
    ("dtype_of_two_more_bytes", "plain", row(NORM, dtype="F32"), 4, "shape and dtype need 256", ALL),
    ("shape_text", "plain", row(NORM, shape="64"), 4, "shape that is no list", ALL),
    ("shape_negative", "plain", row(NORM, shape=[-8, -8]), 4, "no natural number", ALL),
    ("shape_fraction", "plain", row(NORM, shape=[64.0]), 4, "no natural number", ALL),
    ("shape_null", "plain", row(NORM, shape=[None]), 4, "no natural number", ALL),
    ("shape_of_2_63", "plain", row(NORM, shape=[1 << 63]), 4, "beyond all bounds", ALL),
    ("shape_of_2_64", "plain", row(NORM, shape=[1 << 64]), 4, "no natural number", ALL),
    ("shape_product_wraps_to_64", "plain", row(NORM, shape=[1 << 32, (1 << 32), 64]), 4, "more bytes than", ALL),
    ("shape_zero_times_overflow", "plain", row(NORM, shape=[1 << 40, 1 << 40, 0]), 4, "more bytes than", ALL),
    ("shape_of_many_extents", "plain", row(NORM, shape=[64] + [1] * 5000), 4, "dimensions", ALL),
    ("offsets_of_one", "plain", row(NORM, data_offsets=[0]), 4, "no pair", ALL),
    ("offsets_of_three", "plain", row(NORM, data_offsets=[0, 64, 128]), 4, "no pair", ALL),
    ("offsets_negative", "plain", row(NORM, data_offsets=[-128, 0]), 4, "no natural number", ALL),
    ("offsets_fraction", "plain", row(NORM, data_offsets=[0.5, 128.5]), 4, "no natural number", ALL),
    ("offsets_swapped", "plain", header(lambda h: h[NORM]["data_offsets"].reverse()), 4, "ends before it begins", ALL),
    ("offsets_beyond_file", "plain", header(lambda h: h[LAST].update(shape=[1 << 20, 64], data_offsets=[
        h[LAST]["data_offsets"][0], h[LAST]["data_offsets"][0] + (1 << 27)])), 4, "overlap", ALL),
    ("offsets_wrap", "plain", row(NORM, data_offsets=[(1 << 64) - 128, 1 << 64]), 4, "beyond all bounds", ALL),
    ("tensors_overlap", "plain", header(lambda h: h[NORM].update(data_offsets=[0, 128])), 4, "overlaps", ALL),
    ("all_tensors_the_same_bytes", "plain", header(lambda h: [t.update(shape=[64], data_offsets=[0, 128])
                                                              for n, t in h.items() if n != "__metadata__"] and None),
     4, "overlaps", ALL),
    ("hole_between_tensors", "plain", header(lambda h: h.pop(NORM) and None), 4, "leaves a hole", ALL),
    ("bytes_at_the_end", "plain", raw_file(lambda raw: raw + b"more"), 4, "4 bytes at the end", ALL),
    ("last_byte_missing", "plain", raw_file(lambda raw: raw[:-1]), 4, "cut off: its tensors end", ALL),
    ("no_data_at_all", "plain", raw_file(lambda raw: raw[:8 + struct.unpack("<Q", raw[:8])[0]]), 4, "cut off", ALL),
    ("empty_tensor_out_of_bounds", "plain", header(lambda h: h.update(
        {"x": {"dtype": "U8", "shape": [0], "data_offsets": [1 << 40, 1 << 40]}})), 4, "leaves a hole", ALL),
    ("name_too_long", "plain", header(lambda h: h.update({"x" * 100_000: h.pop(NORM)})), 4, "name", ALL),
    ("name_paints_the_terminal", "plain", header(lambda h: h.update({"\x1b[2J\x1b]0;x\x07": {"dtype": "F7"}})), 4,
     "\\x1b[2J", ALL),
    ("name_turns_the_text", "plain", header(lambda h: h.update({"\u202egnp.x\u2066\u200b": {"dtype": "F7"}})), 4,
     "\\u202e", ALL),
    ("name_of_c1_controls", "plain", header(lambda h: h.update({"\u009b31mx\u0085": {"dtype": "F7"}})), 4, "31mx", ALL),
    # --- an index and its shards
    ("index_empty", "sharded", content(INDEX, b""), 4, INDEX, ALL),
    ("index_is_list", "sharded", content(INDEX, b"[]"), 4, "no object 'weight_map'", ALL),
    ("index_without_map", "sharded", content(INDEX, b"{}"), 4, "no object 'weight_map'", ALL),
    ("index_map_empty", "sharded", keys(INDEX, weight_map={}), 4, "is empty", ALL),
    ("index_map_of_numbers", "sharded", weight_map(lambda m: m.update({NORM: 2})), 4, "is not a string", ALL),
    ("index_deep", "sharded", content(INDEX, nested(1000)), 4, "nested deeper", ALL),
    ("index_names_missing_shard", "sharded", weight_map(lambda m: m.update(x="model-00003-of-00002.safetensors")), 3,
     "is missing, though", ALL),
    ("index_names_foreign_tensor", "sharded", weight_map(lambda m: m.update(x=FIRST_SHARD)), 4,
     "is missing, though", ALL),
    ("index_forgets_tensor", "sharded", weight_map(lambda m: m.pop(NORM) and None), 4, "does not know it", ALL),
    ("index_swaps_shards", "sharded", weight_map(lambda m: m.update({NORM: SECOND_SHARD})), 4, "places it in", ALL),
    ("index_climbs_out", "sharded", weight_map(lambda m: m.update({NORM: "../model/" + FIRST_SHARD})), 4,
     "not a plain name", ALL),
    ("index_absolute", "sharded", weight_map(lambda m: m.update({NORM: "/etc/x.safetensors"})), 4, "not a plain name", ALL),
    ("index_backslash", "sharded", weight_map(lambda m: m.update({NORM: "..\\x.safetensors"})), 4, "not a plain name", ALL),
    ("index_zero_byte", "sharded", weight_map(lambda m: m.update({NORM: "a\0b.safetensors"})), 4, "not a plain name", ALL),
    ("index_dot", "sharded", weight_map(lambda m: m.update({NORM: ".safetensors"})), 4, "not a plain name", ALL),
    ("index_other_extension", "sharded", weight_map(lambda m: m.update({NORM: "config.json"})), 4, "not a plain name", ALL),
    ("index_escape_sequence", "sharded", weight_map(lambda m: m.update({NORM: "\x1b[31m.safetensors"})), 3, "\\x1b[31m", ALL),
    ("index_of_many_shards", "sharded", weight_map(lambda m: m.update({f"t{i}": f"{i}.safetensors" for i in range(20_000)})),
     4, "shards", ALL),
    ("shard_twice", "sharded", lambda f: (f / SECOND_SHARD).write_bytes((f / FIRST_SHARD).read_bytes()), 4, "places it in", ALL),
    ("shard_cut_off", "sharded", raw_file(lambda raw: raw[:-5], SECOND_SHARD), 4, "cut off", ALL),
    ("shard_missing", "sharded", removed(SECOND_SHARD), 3, "is missing, though", ALL),
    ("shards_without_index", "sharded", removed(INDEX), 3, "no model.safetensors.index.json", ALL),
    # --- archives of torch
    ("torch_empty", "torch", content("pytorch_model.bin", b""), 4, "no zip archive", ALL),
    ("torch_text", "torch", content("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\n"), 4,
     "no zip archive", ALL),
    ("torch_cut_off", "torch", raw_file(lambda raw: raw[:-30], "pytorch_model.bin"), 4, "", ALL),
    ("torch_old_form", "torch", content("pytorch_model.bin", b"\x80\x02\x8a\nl\xfc"), 5, "before 1.6", ALL),
    ("torch_without_pickle", "torch", archive(lambda m: m.pop("m/data.pkl") and None), 4, "no data.pkl", ALL),
    ("torch_without_storage", "torch", archive(lambda m: m.pop("m/data/3") and None), 4, "does not hold", ALL),
    ("torch_storage_cut", "torch", archive(lambda m: m.update({"m/data/3": b"12"})), 4, "beyond its storage", ALL),
    ("torch_big_endian", "torch", archive(lambda m: m.update({"m/byteorder": b"big"})), 5, "byte order", ALL),
    ("torch_members_overlap", "torch", overlapping_members, 5, "byte order", ALL),
    ("torch_member_beyond_file", "torch", record_field(42, "<I", 0x7fffffff), 4, "cut off", ALL),
    ("torch_member_compressed", "torch", record_field(10, "<H", 8), 5, "is compressed", ALL),
    ("torch_member_encrypted", "torch", record_field(8, "<H", 1), 5, "is encrypted", ALL),
    ("torch_member_inflates", "torch", record_field(24, "<I", 0x7fffffff), 4, "another size", ALL),
    ("torch_directory_beyond_file", "torch", directory_field(16, "<I", 0x7fffffff), 4, "cut off", ALL),
    ("torch_directory_of_too_many", "torch", directory_field(10, "<H", 60000), 4, "too short", ALL),
    ("torch_directory_huge", "torch", directory_field(12, "<I", 0xfffffff0), 4, "more than", ALL),
    ("pickle_huge", "torch", huge_pickle, 4, "more than", ALL),
    ("pickle_empty", "torch", pickled(b""), 4, "cut off", ALL),
    ("pickle_runs_a_command", "torch", pickled(GLOBAL % b"os\nsystem"), 4, "os.system", ALL),
    ("pickle_builtins", "torch", pickled(GLOBAL % b"builtins\neval"), 4, "builtins.eval", ALL),
    ("pickle_unknown_instruction", "torch", pickled(b"\x80\x02\xff."), 4, "", ALL),
    ("pickle_stack_underflow", "torch", pickled(b"\x80\x02ttttt."), 4, "", ALL),
    ("pickle_memo_of_nothing", "torch", pickled(b"\x80\x02j\xff\xff\xff\x7f."), 4, "", ALL),
    ("pickle_memo_far_away", "torch", pickled(b"\x80\x02}r\xff\xff\xff\x7f."), 4, "embed_tokens",
     "footprint quantize generate"),
    ("pickle_deep", "torch", pickled(b"\x80\x02" + b"(" * 1_000_000 + b"t" * 1_000_000 + b"."), 4, "", ALL),
    ("pickle_doubles", "torch", pickled(b"\x80\x02(" + b"(h\x00h\x00tq\x00" * 30 + b"."), 4, "", ALL),
    ("pickle_cut_off", "torch", archive(lambda m: m.update({"m/data.pkl": m["m/data.pkl"][:200]})), 4, "", ALL),
    ("pickle_of_a_list", "torch", pickled(b"\x80\x02]."), 4, "", ALL),
    ("pickle_text_beyond_end", "torch", pickled(b"\x80\x02X\xff\xff\xff\x7fab."), 4, "", ALL),
]
