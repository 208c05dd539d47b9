"""config.json and generation_config.json: what they say of themselves and of the tensors."""

from spoil import both, config, content, dropped, header, json_file, keys, renamed, replaced, tensor, tensors

ALL = "inspect footprint quantize generate"  # who reads the file
MODEL = "verify footprint quantize generate"  # who needs the model: inspect alone shows what there is
EMBED, NORM = "model.embed_tokens.weight", "model.norm.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"
GENERATION = "generation_config.json"


def rope(**parameters):
    return config(rope_scaling=parameters)


def literal(key, text):
    """Sets a key of config.json to what json.dumps would not write."""
    return both(config(**{key: "@"}), replaced("config.json", b'"@"', text.encode()))


def many_values(folder):
    (folder / "config.json").write_text('{"x":[' + "[]," * 1_200_000 + "0]}")


def too_large(folder):
    (folder / "config.json").write_text('{"x":"' + "x" * 5_000_000 + '"}')


CASES = [
    # --- the file
    ("config_empty", "plain", content("config.json", ""), 4, "config.json", ALL),
    ("config_spaces", "plain", content("config.json", "  \n"), 4, "config.json", ALL),
    ("config_null", "plain", content("config.json", "null"), 4, "must be an object", ALL),
    ("config_list", "plain", content("config.json", "[]"), 4, "must be an object", ALL),
    ("config_cut_off", "plain", content("config.json", '{"hidden_size": 64,'), 4, "config.json:1:", ALL),
    ("config_binary", "plain", content("config.json", bytes(range(256))), 4, "config.json:1:", ALL),
    ("config_utf16", "plain", content("config.json", '{"a": 1}'.encode("utf-16")), 4, "config.json", ALL),
    ("config_with_bom", "plain", lambda f: (f / "config.json").write_bytes(
        b"\xef\xbb\xbf" + (f / "config.json").read_bytes()), 4, "byte order mark", ALL),
    ("config_two_documents", "plain", content("config.json", "{}{}"), 4, "config.json:1:", ALL),
    ("config_duplicate_key", "plain", replaced("config.json", b"{", b'{"hidden_size": 8, '), 4, "duplicate key", ALL),
    ("config_escaped_duplicate_key", "plain", replaced("config.json", b"{", b'{"hidden\\u005fsize": 8, '), 4,
     "duplicate key", ALL),
    ("config_deep", "plain", literal("x", "[" * 200_000 + "]" * 200_000), 4, "nested deeper", ALL),
    ("config_deep_and_open", "plain", content("config.json", '{"a":' * 500_000), 4, "nested deeper", ALL),
    ("config_of_many_values", "plain", many_values, 4, "more than", ALL),
    ("config_too_large", "plain", too_large, 4, "larger than", ALL),
    ("config_nan", "plain", literal("rms_norm_eps", "NaN"), 4, "NaN and Infinity are not JSON", ALL),
    ("config_number_overflows", "plain", literal("rms_norm_eps", "1e999"), 4, "config.json:1:", ALL),
    ("config_key_paints_the_terminal", "plain", replaced("config.json", b"{", b'{"\\u001b[2J": 1, "\\u001b[2J": 2, '),
     4, "\\x1b[2J", ALL),
    # --- which model
    ("architectures_missing", "plain", config(architectures=..., model_type=...), 4, "neither", "footprint quantize generate"),
    ("architectures_empty", "plain", config(architectures=[], model_type=...), 4, "neither", "footprint quantize generate"),
    ("architectures_numbers", "plain", config(architectures=[1]), 4, "architectures", MODEL),
    ("architectures_text", "plain", config(architectures="LlamaForCausalLM"), 4, "architectures", MODEL),
    ("architecture_unknown", "plain", config(architectures=["NoSuchForCausalLM"]), 5, "NoSuchForCausalLM",
     "footprint quantize generate"),
    ("architecture_paints", "plain", config(architectures=["\x1b[2J\u202eX"]), 5, "\\x1b[2J", "footprint quantize generate"),
    ("architecture_of_another", "plain", config(architectures=["GPT2LMHeadModel"]), 5, "GPT2LMHeadModel",
     "footprint quantize generate"),
    # --- sizes
    ("hidden_missing", "plain", config(hidden_size=...), 4, "'hidden_size' is missing", MODEL),
    ("hidden_zero", "plain", config(hidden_size=0), 4, "between 1 and", MODEL),
    ("hidden_negative", "plain", config(hidden_size=-64), 4, "between 1 and", MODEL),
    ("hidden_fraction", "plain", config(hidden_size=64.5), 4, "must be an integer", MODEL),
    ("hidden_text", "plain", config(hidden_size="64"), 4, "must be an integer", MODEL),
    ("hidden_list", "plain", config(hidden_size=[64]), 4, "must be an integer", MODEL),
    ("hidden_true", "plain", config(hidden_size=True), 4, "must be an integer", MODEL),
    ("hidden_2_31", "plain", config(hidden_size=1 << 31), 4, "", MODEL),
    ("hidden_2_63", "plain", config(hidden_size=1 << 63), 4, "", MODEL),
    ("hidden_2_64", "plain", config(hidden_size=1 << 64), 4, "", MODEL),
    ("hidden_double", "plain", config(hidden_size=128), 4, "by config.json it is", MODEL),
    ("hidden_not_of_heads", "plain", config(num_attention_heads=3, num_key_value_heads=3), 4, "multiple of", MODEL),
    ("heads_zero", "plain", config(num_attention_heads=0), 4, "between 1 and", MODEL),
    ("heads_negative", "plain", config(num_attention_heads=-4), 4, "between 1 and", MODEL),
    ("heads_huge", "plain", config(num_attention_heads=10**9), 4, "between 1 and", MODEL),
    ("heads_2", "plain", config(num_attention_heads=2), 4, "by config.json it is", MODEL),
    ("kv_heads_zero", "plain", config(num_key_value_heads=0), 4, "between 1 and", MODEL),
    ("kv_heads_three", "plain", config(num_key_value_heads=3), 4, "must divide", MODEL),
    ("kv_heads_more_than_heads", "plain", config(num_key_value_heads=8), 4, "must divide", MODEL),
    ("kv_heads_one", "plain", config(num_key_value_heads=1), 4, "by config.json it is", MODEL),
    ("head_dim_zero", "plain", config(head_dim=0), 4, "between 1 and", MODEL),
    ("head_dim_odd", "plain", config(head_dim=15), 4, "even number", MODEL),
    ("head_dim_huge", "plain", config(head_dim=1 << 30), 4, "between 1 and", MODEL),
    ("head_dim_other", "plain", config(head_dim=8), 4, "by config.json it is", MODEL),
    ("layers_zero", "plain", config(num_hidden_layers=0), 4, "between 1 and", MODEL),
    ("layers_more_than_tensors", "plain", config(num_hidden_layers=3), 4, "model.layers.2", MODEL),
    ("layers_less_than_tensors", "plain", config(num_hidden_layers=1), 4, "belongs to layer 1", MODEL),
    ("layers_billion", "plain", config(num_hidden_layers=10**9), 4, "between 1 and", MODEL),
    ("layers_65536", "plain", config(num_hidden_layers=1 << 16), 4, "model.layers.2", MODEL),
    ("intermediate_zero", "plain", config(intermediate_size=0), 4, "between 1 and", MODEL),
    ("intermediate_other", "plain", config(intermediate_size=127), 4, "by config.json it is", MODEL),
    ("vocab_zero", "plain", config(vocab_size=0), 4, "between 1 and", MODEL),
    ("vocab_other", "plain", config(vocab_size=265), 4, "by config.json it is", MODEL),
    ("vocab_huge", "plain", config(vocab_size=1 << 31), 4, "by config.json it is", MODEL),
    ("positions_zero", "plain", config(max_position_embeddings=0), 4, "between 1 and", MODEL),
    ("positions_negative", "plain", config(max_position_embeddings=-1), 4, "between 1 and", MODEL),
    # --- numbers and switches
    ("eps_text", "plain", config(rms_norm_eps="1e-5"), 4, "must be a number", MODEL),
    ("eps_negative", "plain", config(rms_norm_eps=-1e-5), 4, "between 0 and 1", MODEL),
    ("eps_huge", "plain", config(rms_norm_eps=1e300), 4, "out of range", MODEL),
    ("eps_one", "plain", config(rms_norm_eps=1.0), 4, "between 0 and 1", MODEL),
    ("theta_zero", "plain", config(rope_theta=0), 4, "must be positive", MODEL),
    ("theta_negative", "plain", config(rope_theta=-1.0), 4, "must be positive", MODEL),
    ("theta_huge", "plain", config(rope_theta=1e300), 4, "out of range", MODEL),
    ("theta_list", "plain", config(rope_theta=[1e4]), 4, "must be a number", MODEL),
    ("activation_unknown", "plain", config(hidden_act="\x1bboom"), 5, "boom", "footprint quantize generate"),
    ("activation_number", "plain", config(hidden_act=1), 4, "must be a string", MODEL),
    ("tied_text", "plain", config(tie_word_embeddings="no"), 4, "must be true or false", MODEL),
    ("tied_with_both", "plain", both(config(tie_word_embeddings=True, vocab_size=200)), 4, "by config.json it is", MODEL),
    ("dtype_unknown_model", "plain", config(torch_dtype="float8"), 5, "'float8'", "footprint quantize generate"),
    ("dtype_is_number", "plain", config(torch_dtype=16), 4, "must be a string", MODEL),
    ("attention_bias_without_tensor", "plain", config(attention_bias=True), 4, "q_proj.bias", MODEL),
    ("text_config_list", "plain", config(architectures=["LlavaForConditionalGeneration"], model_type="llava", text_config=[]),
     5, "LlavaFor", "footprint quantize generate"),
    # --- rotary embeddings
    ("rope_list", "plain", config(rope_scaling=[1]), 4, "must be an object", MODEL),
    ("rope_unknown", "plain", rope(rope_type="spiral", factor=2.0), 5, "'spiral'", "footprint quantize generate"),
    ("rope_factor_missing", "plain", rope(rope_type="linear"), 4, "'factor' is missing", MODEL),
    ("rope_factor_zero", "plain", rope(rope_type="linear", factor=0.0), 4, "must be positive", MODEL),
    ("rope_factor_negative", "plain", rope(rope_type="dynamic", factor=-2.0), 4, "must be positive", MODEL),
    ("rope_factor_huge", "plain", rope(rope_type="linear", factor=1e308), 4, "out of range", MODEL),
    ("rope_factor_tiny", "plain", rope(rope_type="linear", factor=1e-320), 4, "", MODEL),
    ("rope_factor_text", "plain", rope(rope_type="linear", factor="2"), 4, "must be a number", MODEL),
    ("rope_low_above_high", "plain", rope(rope_type="llama3", factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0,
                                          original_max_position_embeddings=32), 4, "must be below", MODEL),
    ("rope_original_zero", "plain", rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=0), 4, "must be positive", MODEL),
    ("rope_original_huge", "plain", rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=1 << 62), 4,
     "original_max_position_embeddings", MODEL),
    ("rope_factors_too_few", "plain", rope(rope_type="longrope", factor=2.0, short_factor=[1.0], long_factor=[1.0]), 4,
     "must have 8 numbers", MODEL),
    ("rope_factors_of_text", "plain", rope(rope_type="longrope", factor=2.0, short_factor=["1"] * 8, long_factor=[1.0] * 8),
     4, "list of numbers", MODEL),
    ("rope_factors_negative", "plain", rope(rope_type="longrope", factor=2.0, short_factor=[-1.0] * 8, long_factor=[1.0] * 8),
     4, "positive numbers only", MODEL),
    # --- the tensors that config.json means
    ("weights_without_embedding", "plain", dropped(EMBED), 4, EMBED, MODEL),
    ("weights_without_head", "plain", dropped("lm_head.weight"), 4, "lm_head.weight", MODEL),
    ("weights_without_norm", "plain", dropped(NORM), 4, NORM, MODEL),
    ("weights_transposed", "plain", tensor("model.layers.0.mlp.up_proj.weight", shape=[64, 128]), 4, "has shape [64, 128]",
     MODEL),
    ("weights_of_one_dimension", "plain", tensor(QUERY, shape=[4096]), 4, "has shape [4096]", MODEL),
    ("weights_of_three_dimensions", "plain", tensor(QUERY, shape=[64, 8, 8]), 4, "has shape [64, 8, 8]", MODEL),
    ("weights_empty", "plain", tensor(QUERY, shape=[0, 64], raw=b""), 4, "has shape [0, 64]", MODEL),
    ("weights_of_integers", "plain", tensor(QUERY, dtype="I16"), 4, "not of floating-point", MODEL),
    ("weights_of_bytes", "plain", tensor(QUERY, dtype="U8", shape=[8192, 1]), 4, "quant_state", MODEL),
    ("weights_with_odd_bias", "plain", tensors(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": (
        "BF16", [64], b"\0" * 128)})), 4, "by config.json the model has no bias", MODEL),
    ("layer_number_huge", "plain", renamed("model.layers.1.mlp.up_proj.weight",
                                           "model.layers.99999999999999999999.mlp.up_proj.weight"), 4,
     "model.layers.1.mlp.up_proj", MODEL),
    ("layer_number_negative", "plain", renamed("model.layers.1.mlp.up_proj.weight", "model.layers.-1.mlp.up_proj.weight"), 4,
     "model.layers.1.mlp.up_proj", MODEL),
    ("foreign_tensor", "plain", tensors(lambda t: t.update({"\x1b[31mx\u202e": ("BF16", [1], b"\0\0")})), 5, "\\x1b[31mx",
     "footprint quantize"),
    # --- ids
    ("eos_text", "plain", keys(GENERATION, eos_token_id="</s>"), 4, "eos_token_id", MODEL),
    ("eos_fraction", "plain", keys(GENERATION, eos_token_id=1.5), 4, "eos_token_id", MODEL),
    ("eos_of_texts", "plain", keys(GENERATION, eos_token_id=["2"]), 4, "eos_token_id", MODEL),
    ("eos_2_40", "plain", keys(GENERATION, eos_token_id=1 << 40), 4, "eos_token_id", MODEL),
    ("eos_of_too_many", "plain", keys(GENERATION, eos_token_id=[1] * 100_000), 4, "eos_token_id", MODEL),
    ("generation_list", "plain", content(GENERATION, "[]"), 4, GENERATION, MODEL),
    ("generation_empty", "plain", content(GENERATION, ""), 4, GENERATION, MODEL),
    ("generation_deep", "plain", content(GENERATION, "[" * 100_000), 4, "nested deeper", MODEL),
]
