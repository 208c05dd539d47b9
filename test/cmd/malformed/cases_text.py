"""Tokenizers and chat templates."""

from good import byte_alphabet
from spoil import both, content, json_file, keys, replaced

ALL = "tokenize generate"
JSON = "tokenizer.json"


def model(edit):
    return json_file(JSON, lambda t: edit(t["model"]))


def added(edit):
    return json_file(JSON, lambda t: edit(t["added_tokens"]))


def regex(pattern):
    return json_file(JSON, lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": pattern}))


def normalizer(value):
    return keys(JSON, normalizer=value)


def template(text):
    return keys("tokenizer_config.json", chat_template=text)


def merges_of_one_letter(folder):
    """Tokens a, aa, aaaa, ...: every pair of a long run of one letter can be merged."""

    def edit(m):
        text = "a"
        for i in range(16):
            m["vocab"][text * 2] = 1000 + i
            m["merges"].append([text, text])
            text *= 2

    model(edit)(folder)


def many_added_tokens(folder):
    """Two files with as many tokens each, all of other names: comparing each with each would never end."""
    json_file(JSON, lambda t: t["added_tokens"].extend(
        {"id": 300 + i, "content": f"<a{i}>"} for i in range(100_000)))(folder)
    keys("tokenizer_config.json", added_tokens_decoder={
        str(300_000 + i): {"content": f"<b{i}>"} for i in range(100_000)})(folder)


def fields(*pairs):
    """A protocol buffer: (field, bytes or number)."""
    out = b""
    for number, value in pairs:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def many(value, count):
    """A tokenizer.json that is a list of as many values as there is patience for."""
    return lambda folder: (folder / JSON).write_text('{"model": [' + ",".join([value] * count) + "]}")


SP = "tokenizer.model"
LOOPS = "{% for i in range(99999) %}"

CASES = [
    # --- tokenizer.json
    ("tokenizer_empty", "plain", content(JSON, ""), 4, JSON, ALL),
    ("tokenizer_list", "plain", content(JSON, "[]"), 4, "'model' is missing", ALL),
    ("tokenizer_deep", "plain", content(JSON, "[" * 100_000), 4, "nested deeper", ALL),
    ("tokenizer_of_millions_of_numbers", "plain", many("1", 6_000_000), 4, "bytes of memory", "tokenize"),
    ("tokenizer_of_millions_of_texts", "plain", many('""', 3_000_000), 4, "bytes of memory", "tokenize"),
    ("tokenizer_of_millions_of_objects", "plain", many("{}", 3_000_000), 4, "bytes of memory", "tokenize"),
    ("tokenizer_of_objects_in_objects", "plain", many('{"":' * 60 + "1" + "}" * 60, 40_000), 4, "bytes of memory",
     "tokenize"),
    ("tokenizer_just_within_memory", "plain", many("{}", 1_300_000), 4, "model: must be", "tokenize"),
    ("tokenizer_of_long_texts", "plain", many('"' + "x" * 4_000_000 + '"', 15), 4, "model: must be", "tokenize"),
    ("tokenizer_of_one_text", "plain", content(JSON, '{"model": "' + "x" * 60_000_000 + '"}'), 4, "a string",
     "tokenize"),
    ("tokenizer_without_model", "plain", keys(JSON, model=...), 4, "'model' is missing", ALL),
    ("tokenizer_model_text", "plain", keys(JSON, model="BPE"), 4, "model", ALL),
    ("tokenizer_model_unknown", "plain", model(lambda m: m.update(type="\x1b[2JRNN")), 5, "\\x1b[2JRNN", ALL),
    ("vocab_missing", "plain", model(lambda m: m.pop("vocab") and None), 4, "'vocab' is missing", ALL),
    ("vocab_list", "plain", model(lambda m: m.update(vocab=["a", "b"])), 4, "vocab", ALL),
    ("vocab_empty", "plain", model(lambda m: m.update(vocab={})), 4, "", ALL),
    ("vocab_id_negative", "plain", model(lambda m: m["vocab"].update(he=-1)), 4, "token id", ALL),
    ("vocab_id_fraction", "plain", model(lambda m: m["vocab"].update(he=1.5)), 4, "token id", ALL),
    ("vocab_id_text", "plain", model(lambda m: m["vocab"].update(he="256")), 4, "token id", ALL),
    ("vocab_id_2_31", "plain", model(lambda m: m["vocab"].update(he=1 << 31)), 4, "token id", ALL),
    ("vocab_id_billion", "plain", model(lambda m: m["vocab"].update(he=10**9)), 4, "impossible in a vocabulary", ALL),
    ("vocab_id_twice", "plain", model(lambda m: m["vocab"].update(he=5)), 4, "belongs to two tokens", ALL),
    ("vocab_token_twice", "plain", replaced(JSON, b'"he": 256', b'"he": 256, "he": 300'), 4, "duplicate key", ALL),
    ("vocab_beyond_embedding", "plain", model(lambda m: m["vocab"].update(zz=400)), 4, "embedding", "verify"),
    ("merges_text", "plain", model(lambda m: m.update(merges="h e")), 4, "merges", ALL),
    ("merges_of_three", "plain", model(lambda m: m["merges"].append(["a", "b", "c"])), 4, "merges", ALL),
    ("merges_of_numbers", "plain", model(lambda m: m["merges"].append([1, 2])), 4, "must be a string", ALL),
    ("merge_without_space", "plain", model(lambda m: m.update(merges=["he"])), 4, "a space between", ALL),
    ("merge_of_unknown_token", "plain", model(lambda m: m["merges"].append(["\x1b", "q"])), 4, "\\x1b", ALL),
    ("merge_to_unknown_token", "plain", model(lambda m: m["merges"].append(["q", "x"])), 4, "qx", ALL),
    ("unk_unknown", "plain", model(lambda m: m.update(unk_token="<unk>")), 4, "unk_token", ALL),
    ("dropout", "plain", model(lambda m: m.update(dropout=0.1)), 5, "dropout", ALL),
    ("added_object", "plain", keys(JSON, added_tokens={}), 4, "added_tokens", ALL),
    ("added_without_id", "plain", added(lambda a: a[0].pop("id") and None), 4, "'id' is missing", ALL),
    ("added_id_twice", "plain", added(lambda a: a[1].update(id=259)), 4, "two added tokens", ALL),
    ("added_text_twice", "plain", added(lambda a: a[1].update(content="<s>")), 4, "added twice", ALL),
    ("added_id_billion", "plain", added(lambda a: a[1].update(id=10**9)), 4, "", ALL),
    ("added_content_long", "plain", added(lambda a: a[1].update(content="x" * 100_000)), 4, "more than", ALL),
    ("added_flag_text", "plain", added(lambda a: a[1].update(special="yes")), 4, "must be true or false", ALL),
    ("added_tokens_by_the_hundred_thousand", "plain", many_added_tokens, 0, "", "tokenize"),
    ("normalizer_unknown", "plain", normalizer({"type": "Rot13"}), 5, "Rot13", ALL),
    ("normalizer_text", "plain", normalizer("NFC"), 4, "", ALL),
    ("normalizer_of_many_steps", "plain", normalizer({"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100_000}), 4, "",
     ALL),
    ("normalizer_that_explodes", "plain", normalizer({"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1000}] * 8}), 4, "", ALL),
    ("normalizer_prepends_a_megabyte", "plain", normalizer({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "x" * 1_000_000}] * 60}), 4, "", "tokenize"),
    ("charsmap_binary", "plain", normalizer({"type": "Precompiled", "precompiled_charsmap": "////////"}), 4, "", ALL),
    ("charsmap_no_base64", "plain", normalizer({"type": "Precompiled", "precompiled_charsmap": "!"}), 4, "", ALL),
    ("pre_tokenizer_unknown", "plain", keys(JSON, pre_tokenizer={"type": "Magic"}), 5, "Magic", ALL),
    ("regex_open", "plain", regex("(a"), 4, "no regular expression", ALL),
    ("regex_huge", "plain", regex("a" * 2_000_000), 4, "", ALL),
    ("regex_deep", "plain", regex("(" * 50_000 + "a" + ")" * 50_000), 4, "", ALL),
    ("regex_repeats_repeats", "plain", regex("((((a{1,9999}){1,9999}){1,9999}){1,9999})"), 4, "", ALL),
    ("regex_lookbehind_of_any_length", "plain", regex("(?<=a+)b"), 4, "", ALL),
    ("regex_calls_code", "plain", regex("a(?C1)b"), 5, "", ALL),
    ("regex_exponential", "plain", regex("(a|aa)+[bc]|a"), 4, "takes too long", "long"),
    ("regex_quadratic", "plain", regex("a*b|a"), 4, "takes too long", "long"),
    ("post_processor_unknown", "plain", keys(JSON, post_processor={"type": "Stamp"}), 5, "Stamp", ALL),
    ("post_processor_of_unknown_token", "plain", keys(JSON, post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
        "pair": [], "special_tokens": {}}), 4, "[X]", ALL),
    ("post_processor_id_beyond", "plain", keys(JSON, post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "pair": [],
        "special_tokens": {"[X]": {"id": "[X]", "ids": [999_999], "tokens": ["[X]"]}}}), 4, "", ALL),
    ("decoder_unknown", "plain", keys(JSON, decoder={"type": "Crystal"}), 5, "Crystal", ALL),
    ("unigram_score_text", "plain", keys(JSON, model={"type": "Unigram", "vocab": [["a", "x"]], "unk_id": 0}), 4, "score", ALL),
    ("unigram_unk_beyond", "plain", keys(JSON, model={"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 7}), 4, "unk_id", ALL),
    ("unigram_token_long", "plain", keys(JSON, model={"type": "Unigram", "vocab": [["a" * 5000, -1.0]], "unk_id": 0}), 4,
     "more than", ALL),
    # --- its companions
    ("class_config_list", "plain", content("tokenizer_config.json", "[]"), 4, "must hold an object", ALL),
    ("class_config_key_no_id", "plain", keys("tokenizer_config.json", added_tokens_decoder={"x": {"content": "y"}}), 4,
     "no token id", ALL),
    ("class_config_id_overflows", "plain", keys("tokenizer_config.json", added_tokens_decoder={"99999999999": {"content": "y"}}),
     4, "no token id", ALL),
    ("class_config_bos_list", "plain", keys("tokenizer_config.json", bos_token=["<s>"]), 4, "bos_token", ALL),
    ("vocab_file_list", "vocab_merges", content("vocab.json", "[]"), 4, "vocab", ALL),
    ("merges_file_missing", "vocab_merges", lambda f: (f / "merges.txt").unlink(), 3, "merges.txt", ALL),
    ("merges_file_of_words", "vocab_merges", content("merges.txt", "h e\none two three\n"), 4, "line 2", ALL),
    ("merges_file_not_utf8", "vocab_merges", content("merges.txt", b"h e\n\xff\xfe q\n"), 4, "\\xff", ALL),
    ("ranks_cut", "tiktoken", content(SP, "IQ== 0\nIg"), 4, "line 2", ALL),
    ("ranks_negative", "tiktoken", content(SP, "IQ== 0\nIg== -1\n"), 4, "line 2", ALL),
    ("ranks_no_base64", "tiktoken", content(SP, "IQ== 0\n\x1b[2J 1\n"), 4, "\\x1b[2J", ALL),
    ("ranks_twice", "tiktoken", content(SP, "IQ== 0\nIg== 0\n"), 4, "two tokens", ALL),
    ("ranks_billion", "tiktoken", content(SP, "IQ== 0\nIg== 1000000000\n"), 4, "impossible", ALL),
    ("sentencepiece_empty", "sentencepiece", content(SP, b""), 4, SP, ALL),
    ("sentencepiece_text", "sentencepiece", content(SP, b"version https://git-lfs"), 4, SP, ALL),
    ("sentencepiece_cut", "sentencepiece", lambda f: (f / SP).write_bytes((f / SP).read_bytes()[:20_001]), 4, SP, ALL),
    ("sentencepiece_groups", "sentencepiece", content(SP, b"\x0b" * 100_000), 4, SP, ALL),
    ("sentencepiece_length_beyond", "sentencepiece", content(SP, b"\x0a\xff\xff\xff\xff\x07"), 4, SP, ALL),
    ("sentencepiece_of_one_piece", "sentencepiece", content(SP, fields((1, fields((1, b"a"))))), 4, SP, ALL),
    ("sentencepiece_piece_twice", "sentencepiece", content(SP, fields((1, fields((1, b"<unk>"), (3, 2))), *[
        (1, fields((1, b"a")))] * 2)), 4, SP, ALL),
    ("sentencepiece_not_utf8", "sentencepiece", content(SP, fields((1, fields((1, b"<unk>"), (3, 2))), (
        1, fields((1, b"\xff\xfe"))))), 4, "UTF-8", ALL),
    # --- chat templates
    ("template_number", "plain", template(7), 4, "chat_template", "render"),
    ("template_without_name", "plain", template([{"template": "x"}]), 4, "without a name", "render"),
    ("template_open", "plain", template("{% for m in messages %}"), 4, "", "render chat"),
    ("template_unknown_tag", "plain", template("{% include 'x' %}"), 5, "include", "render chat"),
    ("template_unknown_filter", "plain", template("{{ 1 | \x1bf }}"), 4, "", "render chat"),
    ("template_deep", "plain", template("{{ " + "(" * 50_000 + ")" * 50_000 + " }}"), 4, "nested deeper", "render chat"),
    ("template_of_deep_blocks", "plain", template("{% if 1 %}" * 10_000), 4, "nested deeper", "render chat"),
    ("template_too_large", "plain", template("x" * 1_100_000), 4, "", "render chat"),
    ("template_endless_loops", "plain", template(LOOPS * 8 + "{% endfor %}" * 8), 4, "", "render"),
    ("template_range_of_billions", "plain", template("{{ range(10**9) | list }}"), 4, "", "render"),
    ("template_recursion", "plain", template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), 4, "", "render"),
    ("template_doubling_text", "plain", template("{% set ns = namespace(t='xxxxxxxx') %}" + LOOPS +
     "{% set ns.t = ns.t ~ ns.t %}{% endfor %}"), 4, "", "render"),
    ("template_repeats_text", "plain", template("{{ 'x' * 999999999999 }}"), 4, "", "render"),
    ("template_repeats_lists", "plain", template("{{ [0] * 999999999 }}"), 4, "", "render"),
    ("template_power", "plain", template("{{ 9 ** 9 ** 9 ** 9 }}"), 4, "", "render"),
    ("template_pads", "plain", template("{{ '%999999999d' | format(1) }}"), 4, "", "render"),
    ("template_lists_in_lists", "plain", template("{% set ns = namespace(t=[]) %}" + LOOPS +
     "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t }}"), 4, "", "render"),
    ("template_divides_by_zero", "plain", template("{{ 1 // 0 }}"), 4, "", "render"),
    ("template_file_not_utf8", "plain", content("chat_template.jinja", b"\xff\xfe{{"), 4, "", "render"),
]
