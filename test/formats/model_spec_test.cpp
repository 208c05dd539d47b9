// What the families' config.json files mean, key by key. Expectations are transformers' (configuration_*.py
// and modeling_*.py).
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/architectures.h"
#include "test/support/family_config.h"

using namespace qtool;

namespace {

ModelSpec spec_of(const std::string& sample, const std::string& changes = "{}") {
  return model_spec_of(test::family_config(sample, changes));
}

std::vector<std::int64_t> windows_of(const ModelSpec& spec) {
  std::vector<std::int64_t> windows;
  for (int layer = 0; layer < spec.layers; ++layer) windows.push_back(spec.layer(layer).window);
  return windows;
}

std::vector<LayerRope> ropes_of(const ModelSpec& spec) {
  std::vector<LayerRope> ropes;
  for (int layer = 0; layer < spec.layers; ++layer) ropes.push_back(spec.layer(layer).rope);
  return ropes;
}

std::vector<bool> experts_of(const ModelSpec& spec) {
  std::vector<bool> experts;
  for (int layer = 0; layer < spec.layers; ++layer) experts.push_back(spec.layer(layer).experts);
  return experts;
}

std::vector<double> scales_of(const ModelSpec& spec) {
  std::vector<double> scales;
  for (int layer = 0; layer < spec.layers; ++layer) scales.push_back(spec.layer(layer).attention_scale);
  return scales;
}

using Windows = std::vector<std::int64_t>;
using Ropes = std::vector<LayerRope>;
using Experts = std::vector<bool>;
constexpr LayerRope kGlobal = LayerRope::kGlobal, kLocal = LayerRope::kLocal, kNone = LayerRope::kNone;

}  // namespace

TEST_CASE("sliding windows: by class default, by key, by layer") {
  CHECK(windows_of(spec_of("mistral")) == Windows{8, 8});
  CHECK(windows_of(spec_of("mistral", R"({"sliding_window": "absent"})")) == Windows{4096, 4096});
  CHECK(windows_of(spec_of("mistral", R"({"sliding_window": null})")) == Windows{0, 0});
  CHECK(windows_of(spec_of("mixtral", R"({"sliding_window": "absent"})")) == Windows{0, 0});
  CHECK(windows_of(spec_of("mixtral", R"({"sliding_window": 5})")) == Windows{5, 5});
  CHECK(windows_of(spec_of("phi3")) == Windows{8, 8});
  CHECK(windows_of(spec_of("phi3", R"({"sliding_window": "absent"})")) == Windows{0, 0});
  CHECK(windows_of(spec_of("starcoder2", R"({"sliding_window": 7})")) == Windows{7, 7});

  CHECK(windows_of(spec_of("qwen2")) == Windows{0, 8, 8});
  CHECK(windows_of(spec_of("qwen2", R"({"layer_types": "absent"})")) == Windows{0, 8, 8});
  CHECK(windows_of(spec_of("qwen2", R"({"layer_types": "absent", "max_window_layers": 2})")) ==
        Windows{0, 0, 8});
  CHECK(windows_of(spec_of("qwen2", R"({"layer_types": "absent", "max_window_layers": "absent"})")) ==
        Windows{0, 0, 0});
  CHECK(windows_of(spec_of("qwen2", R"({"use_sliding_window": false})")) == Windows{0, 0, 0});
  CHECK(windows_of(spec_of("qwen2_moe_norm", R"({"layer_types": "absent"})")) == Windows{8, 0, 0});
  CHECK(windows_of(spec_of("qwen2_moe_norm", R"({"layer_types": "absent", "max_window_layers": 3})")) ==
        Windows{8, 0, 8});
  CHECK(windows_of(spec_of("qwen3_moe_window")) == Windows{8, 8});

  CHECK(windows_of(spec_of("gemma2")) == Windows{8, 0, 8});
  CHECK(windows_of(spec_of("gemma2", R"({"layer_types": "absent"})")) == Windows{8, 0, 8});
  CHECK(windows_of(spec_of("gemma3_text")) == Windows{8, 0, 8});
  CHECK(windows_of(spec_of("gemma3_text", R"({"layer_types": "absent", "sliding_window_pattern": 3})")) ==
        Windows{8, 8, 0});
  CHECK(windows_of(spec_of("gpt_neo")) == Windows{0, 8});
  CHECK(windows_of(
            spec_of("gpt_neo",
                    R"({"num_layers": 5, "attention_types": [[["global", "local"], 2], [["local"], 1]]})")) ==
        Windows{0, 8, 0, 8, 8});
  CHECK(windows_of(spec_of(
            "gpt_neo", R"({"num_layers": 24, "attention_types": "absent", "window_size": "absent"})"))[23] ==
        256);
  CHECK(windows_of(spec_of("cohere2")) == Windows{8, 8, 0});
  CHECK(windows_of(spec_of("cohere2", R"({"layer_types": "absent", "sliding_window_pattern": 2})")) ==
        Windows{8, 0, 8});
  CHECK(windows_of(spec_of("cohere2", R"({"layer_types": "absent", "sliding_window_pattern": "absent",
                                          "num_hidden_layers": 5})")) == Windows{8, 8, 8, 0, 8});
  CHECK(windows_of(spec_of("olmo3")) == Windows{8, 0, 8});
  CHECK(windows_of(spec_of("olmo3", R"({"layer_types": "absent", "sliding_window": "absent",
                                        "num_hidden_layers": 5})")) == Windows{4096, 4096, 4096, 0, 4096});
  CHECK(windows_of(spec_of("smollm3_window")) == Windows{8, 0, 0});
  CHECK(windows_of(spec_of("smollm3_window", R"({"layer_types": "absent"})")) == Windows{8, 0, 0});
}

TEST_CASE("which layers rotate, and by which table") {
  CHECK(ropes_of(spec_of("smollm3")) == Ropes{kGlobal, kNone, kGlobal});
  CHECK(ropes_of(spec_of("smollm3", R"({"no_rope_layers": "absent"})")) == Ropes{kGlobal, kNone, kGlobal});
  CHECK(ropes_of(spec_of("smollm3", R"({"no_rope_layers": "absent", "no_rope_layer_interval": 3})")) ==
        Ropes{kGlobal, kGlobal, kNone});
  CHECK(ropes_of(spec_of("gemma3_text")) == Ropes{kLocal, kGlobal, kLocal});
  CHECK(ropes_of(spec_of("olmo3")) == Ropes{kLocal, kGlobal, kLocal});
  CHECK(ropes_of(spec_of("cohere2")) == Ropes{kGlobal, kGlobal, kNone});
  for (const char* sample : {"bloom", "gpt2", "gpt_bigcode", "gpt_neo", "opt", "mpt", "falcon_rw"})
    CHECK(ropes_of(spec_of(sample))[0] == kNone);
  for (const char* sample : {"mistral", "gptj", "falcon_7b", "gpt_neox"})
    CHECK(ropes_of(spec_of(sample)) == Ropes{kGlobal, kGlobal});
  CHECK(spec_of("gptj").rope_pairs == RopePairs::kNeighbours);
  CHECK(spec_of("gptj").rope.rotary_dim == 8);
  CHECK(spec_of("cohere").rope_pairs == RopePairs::kNeighbours);
  CHECK(spec_of("llava_multimodal").rope_pairs == RopePairs::kHalves);
}

TEST_CASE("experts: how many, which, where") {
  const ModelSpec mixtral = spec_of("mixtral");
  CHECK(mixtral.experts.normalized);
  CHECK(mixtral.experts.intermediate_size == mixtral.intermediate_size);
  CHECK(experts_of(mixtral) == Experts{true, true});

  const ModelSpec qwen2 = spec_of("qwen2_moe");
  CHECK(qwen2.experts.experts == 4);
  CHECK(qwen2.experts.chosen == 2);
  CHECK(qwen2.experts.intermediate_size == 24);
  CHECK(qwen2.experts.shared_intermediate_size == 28);
  CHECK(!qwen2.experts.normalized);
  CHECK(experts_of(qwen2) == Experts{true, false, true});
  CHECK(qwen2.qkv_bias);
  const ModelSpec normalized = spec_of("qwen2_moe_norm");
  CHECK(normalized.experts.normalized);
  CHECK(experts_of(normalized) == Experts{false, true, false});
  CHECK(!normalized.qkv_bias);
  CHECK(experts_of(spec_of("qwen2_moe", R"({"mlp_only_layers": [0, 2, 7, -1]})")) ==
        Experts{false, true, false});

  const ModelSpec qwen3 = spec_of("qwen3_moe");
  CHECK(qwen3.experts.experts == 4);
  CHECK(qwen3.experts.shared_intermediate_size == 0);
  CHECK(experts_of(qwen3) == Experts{false, true, true});
  CHECK(spec_of("qwen3_moe", R"({"num_local_experts": "absent", "num_experts": 3})").experts.experts == 3);
  CHECK(!spec_of("qwen3_moe", R"({"norm_topk_prob": "absent"})").experts.normalized);
}

TEST_CASE("how queries, keys and values are stored") {
  const auto layout = [](const std::string& sample, const std::string& changes = "{}") {
    const ModelSpec spec = spec_of(sample, changes);
    return std::pair(spec.qkv_layout, spec.kv_heads);
  };
  using L = QkvLayout;
  CHECK(layout("falcon_7b") == std::pair(L::kBlocks, 1));
  CHECK(layout("falcon_40b") == std::pair(L::kGrouped, 2));
  CHECK(layout("falcon_11b") == std::pair(L::kGrouped, 3));
  CHECK(layout("falcon_rw") == std::pair(L::kGrouped, 6));
  CHECK(layout("gpt_bigcode") == std::pair(L::kBlocks, 1));
  CHECK(layout("gpt_bigcode_multi_head") == std::pair(L::kGrouped, 3));
  CHECK(layout("bloom") == std::pair(L::kGrouped, 4));
  CHECK(layout("gpt2") == std::pair(L::kBlocks, 3));
  CHECK(layout("phi3") == std::pair(L::kBlocks, 2));
  CHECK(layout("mistral", R"({"num_key_value_heads": "absent", "num_attention_heads": 16})") ==
        std::pair(L::kSeparate, 8));
  CHECK(layout("mistral", R"({"num_key_value_heads": null})") == std::pair(L::kSeparate, 4));
  CHECK(layout("phi", R"({"num_key_value_heads": "absent"})") == std::pair(L::kSeparate, 4));
}

TEST_CASE("norms and the order of blocks") {
  CHECK(spec_of("falcon_7b").one_norm);
  CHECK(spec_of("falcon_11b").one_norm);
  const ModelSpec falcon = spec_of("falcon_40b");
  CHECK((falcon.parallel && !falcon.one_norm));
  CHECK(spec_of("falcon_40b", R"({"num_ln_in_parallel_attn": null})") == falcon);
  const ModelSpec rw = spec_of("falcon_rw");
  CHECK((!rw.parallel && !rw.one_norm && rw.alibi == Alibi::kFalcon && rw.qkv_bias && rw.mlp_bias));
  CHECK(spec_of("gpt_neox").parallel);
  CHECK(!spec_of("gpt_neox").one_norm);
  CHECK(!spec_of("gpt_neox_sequential").parallel);
  CHECK(spec_of("stablelm_parallel").one_norm);
  CHECK(spec_of("stablelm_parallel").qk_norm == QkNorm::kEachHead);
  CHECK(!spec_of("stablelm_parallel").qk_norm_bias);
  CHECK(spec_of("stablelm").qkv_bias);
  CHECK(spec_of("stablelm").rope.rotary_dim == 2);
  CHECK(spec_of("phi_qk_layernorm").qk_norm == QkNorm::kHead);
  CHECK(spec_of("phi_qk_layernorm").qk_norm_bias);
  CHECK(spec_of("cohere_qk_norm").qk_norm == QkNorm::kEachHead);
  CHECK(spec_of("cohere_qk_norm").qk_norm_kind == NormKind::kLayer);
  CHECK(spec_of("olmo2").qk_norm == QkNorm::kAll);
  CHECK(spec_of("olmo2").norm_place == NormPlace::kAfter);
  CHECK(!spec_of("olmo").norm_weight);
  CHECK(spec_of("olmo").qkv_limit == 1.0);
  CHECK(spec_of("olmo", R"({"clip_qkv": null})").qkv_limit == 0.0);
  CHECK(spec_of("nemotron").norm_plus_one);
  CHECK(spec_of("bloom_6_heads").residual_from_norm);
  CHECK(!spec_of("bloom").residual_from_norm);

  const ModelSpec opt = spec_of("opt");
  CHECK((opt.norm_place == NormPlace::kBefore && opt.final_norm && opt.embedding_size == 0));
  const ModelSpec plain = spec_of("opt_plain");
  CHECK((!plain.norm_weight && !plain.norm_bias && !plain.final_norm && !plain.qkv_bias && !plain.mlp_bias));
  const ModelSpec post = spec_of("opt_post_norm");
  CHECK((post.norm_place == NormPlace::kOnResidual && !post.final_norm && post.embedding_size == 20));
  CHECK(post.learned_positions == 2);
  CHECK(spec_of("gpt2").learned_positions == 0);
}

TEST_CASE("numbers in the flow") {
  CHECK(scales_of(spec_of("gpt2")) == std::vector<double>{0.0, 0.0});
  const double gpt2 = 1.0 / std::sqrt(8.0);
  CHECK(scales_of(spec_of("gpt2_inverse_layer")) == std::vector<double>{gpt2, gpt2 / 2, gpt2 / 3});
  CHECK(scales_of(spec_of("gpt2_inverse_layer", R"({"scale_attn_weights": false})")) ==
        std::vector<double>{1.0, 1.0 / 2, 1.0 / 3});
  CHECK(scales_of(spec_of("gpt_bigcode", R"({"scale_attn_weights": false})")) ==
        std::vector<double>{1.0, 1.0});
  CHECK(scales_of(spec_of("gpt_neo")) == std::vector<double>{1.0, 1.0});
  CHECK(scales_of(spec_of("granite")) == std::vector<double>{0.6, 0.6});
  CHECK(scales_of(spec_of("granite", R"({"attention_multiplier": "absent"})")) ==
        std::vector<double>{1.0, 1.0});
  CHECK(scales_of(spec_of("mpt_6_heads")) == std::vector<double>{0.5, 0.5});
  CHECK(spec_of("mpt_6_heads").qkv_limit == 1.0);
  CHECK(spec_of("granite").embedding_scale == 3.0);
  CHECK(spec_of("granite").residual_scale == 0.4);
  CHECK(spec_of("granite").logit_scale == 1.0 / 1.7);
  CHECK(spec_of("cohere").logit_scale == 0.7);
  CHECK(spec_of("cohere", R"({"logit_scale": "absent"})").logit_scale == 0.0625);
  CHECK(spec_of("gemma").embedding_scale == std::sqrt(32.0));

  const ModelSpec gemma2 = spec_of("gemma2");
  CHECK(gemma2.attention_softcap == 2.0);
  CHECK(gemma2.logit_softcap == 3.0);
  CHECK(gemma2.layer(1).attention_scale == 1.0 / std::sqrt(20.0));
  const ModelSpec absent =
      spec_of("gemma2", R"({"attn_logit_softcapping": "absent", "final_logit_softcapping": "absent"})");
  CHECK(absent.attention_softcap == 50.0);
  CHECK(absent.logit_softcap == 30.0);
  const ModelSpec null =
      spec_of("gemma2", R"({"attn_logit_softcapping": null, "final_logit_softcapping": null})");
  CHECK(null.attention_softcap == 0.0);
  CHECK(null.logit_softcap == 0.0);
  CHECK(spec_of("gemma3_text").attention_softcap == 0.0);
  CHECK(spec_of("gemma3_text", R"({"attn_logit_softcapping": 7})").attention_softcap == 7.0);
}

TEST_CASE("activations by the family's key") {
  CHECK(spec_of("gemma", R"({"hidden_act": "gelu"})").activation == Activation::kGeluTanh);
  CHECK(spec_of("gemma", R"({"hidden_activation": "silu"})").activation == Activation::kGeluTanh);
  CHECK(spec_of("gemma2", R"({"hidden_act": "silu"})").activation == Activation::kGeluTanh);
  CHECK(spec_of("gemma2", R"({"hidden_activation": "gelu"})").activation == Activation::kGeluErf);
  CHECK(spec_of("gpt2_inverse_layer").activation == Activation::kGeluErf);
  CHECK(spec_of("gpt2").activation == Activation::kGeluTanh);
  CHECK(spec_of("opt").activation == Activation::kRelu);
  CHECK(spec_of("nemotron").activation == Activation::kRelu2);
  CHECK(spec_of("falcon_7b").activation == Activation::kGeluErf);
  CHECK(spec_of("falcon_7b", R"({"activation": "quick_gelu"})").activation == Activation::kQuickGelu);
  CHECK(spec_of("bloom", R"({"hidden_act": "relu"})").activation == Activation::kGeluTanh);
}

TEST_CASE("absent keys mean what the family's class says") {
  const auto tied = [](const std::string& sample) {
    return spec_of(sample, R"({"tie_word_embeddings": "absent"})").tied_head;
  };
  for (const char* sample : {"bloom", "gpt2", "gpt_neo", "gpt_bigcode", "opt", "falcon_7b", "mpt",
                             "starcoder2", "smollm3", "gemma", "gemma2", "gemma3_text", "cohere"}) {
    INFO(sample);
    CHECK(tied(sample));
  }
  for (const char* sample : {"mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "phi", "phi3",
                             "stablelm", "gpt_neox", "gptj", "olmo", "olmo2", "granite", "nemotron"}) {
    INFO(sample);
    CHECK(!tied(sample));
  }
  CHECK(spec_of("gpt2").intermediate_size == 4 * spec_of("gpt2").hidden_size);
  CHECK(spec_of("gpt2", R"({"n_inner": 50})").intermediate_size == 50);
  CHECK(spec_of("qwen3", R"({"head_dim": "absent"})").head_dim == 128);
  CHECK(spec_of("qwen3_moe", R"({"head_dim": "absent"})").head_dim == 8);
  CHECK(spec_of("gemma", R"({"head_dim": "absent"})").head_dim == 256);
  CHECK(spec_of("mixtral", R"({"rope_parameters": "absent"})").rope.theta == 1e6);
  CHECK(spec_of("cohere", R"({"rope_parameters": "absent"})").rope.theta == 5e5);
  CHECK(spec_of("phi", R"({"rope_parameters": "absent"})").rope.rotary_dim == 4);
  CHECK(spec_of("olmo", R"({"layer_norm_eps": 0.5, "rms_norm_eps": 0.5})").norm_eps == 1e-5);
  CHECK(spec_of("falcon_7b", R"({"eos_token_id": "absent"})").eos_ids == std::vector<std::int64_t>{11});
}

TEST_CASE("a multimodal model is read through its text_config") {
  const ModelSpec gemma = spec_of("gemma3_multimodal");
  CHECK(gemma.architecture == "Gemma3ForCausalLM");
  CHECK(gemma.tied_head);
  CHECK(gemma.dtype == DType::kBF16);
  CHECK(gemma.eos_ids == std::vector<std::int64_t>{2});  // of the whole; text_config has 1
  CHECK(spec_of("mistral3_multimodal").architecture == "MistralForCausalLM");
  CHECK(spec_of("llava_multimodal").architecture == "LlamaForCausalLM");
  // LLaVA-1.5's own file leaves out what LlamaConfig has by default.
  const ModelSpec llava = spec_of("llava_multimodal", R"({"text_config": {"vocab_size": 32064}})");
  CHECK(llava.model_type == "llama");
  CHECK(llava.vocab_size == 32064);
  CHECK(llava.hidden_size == 4096);
  CHECK(llava.layers == 32);
  // Gemma 3 4B's
  const ModelSpec gemma4b = spec_of(
      "gemma3_multimodal",
      R"({"text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
          "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
          "sliding_window": 1024}})");
  CHECK(gemma4b.heads == 8);
  CHECK(gemma4b.kv_heads == 4);
  CHECK(gemma4b.head_dim == 256);
  CHECK(gemma4b.vocab_size == 262208);
  CHECK(gemma4b.rope.type == RopeType::kLinear);
  CHECK(gemma4b.rope.theta == 1e6);
  CHECK(gemma4b.local_rope->type == RopeType::kDefault);
  CHECK(gemma4b.local_rope->theta == 1e4);
  CHECK(gemma4b.layer(5).window == 0);
  CHECK(gemma4b.layer(6).window == 1024);
}

TEST_CASE("values that cannot be, or cannot be computed, are refused by the name of their key") {
  struct Row {
    const char* sample;
    const char* changes;
    ExitCode code;
    const char* named;
  };
  constexpr ExitCode kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  const Row rows[] = {
      {"mistral", R"({"sliding_window": 0})", kBad, "sliding_window"},
      {"mistral", R"({"sliding_window": "wide"})", kBad, "sliding_window"},
      {"qwen2", R"({"layer_types": ["full_attention"]})", kBad, "layer_types"},
      {"qwen2", R"({"layer_types": "full_attention"})", kBad, "layer_types"},
      {"qwen2", R"({"layer_types": ["full_attention", "chunked_attention", "full_attention"]})", kUnknown,
       "chunked_attention"},
      {"qwen2", R"({"sliding_window": null})", kBad, "sliding_window"},
      {"gemma3_text", R"({"layer_types": "absent", "sliding_window_pattern": 0})", kBad,
       "sliding_window_pattern"},
      {"gemma3_text", R"({"use_bidirectional_attention": true})", kUnknown, "use_bidirectional_attention"},
      {"gemma3_text", R"({"rope_parameters": {"rope_type": "linear", "factor": 8.0}})", kUnknown,
       "stands beside"},
      {"gemma2", R"({"query_pre_attn_scalar": 0})", kBad, "query_pre_attn_scalar"},
      {"gemma2", R"({"attn_logit_softcapping": -1})", kBad, "attn_logit_softcapping"},
      {"smollm3", R"({"no_rope_layers": [1]})", kBad, "no_rope_layers"},
      {"smollm3", R"({"no_rope_layers": [1, "x", 1]})", kBad, "no_rope_layers"},
      {"mixtral", R"({"num_experts_per_tok": 100})", kBad, "num_experts_per_tok"},
      {"mixtral", R"({"num_local_experts": 0})", kBad, "num_local_experts"},
      {"mixtral", R"({"num_local_experts": 65536, "num_hidden_layers": 65536})", kBad, "experts"},
      {"qwen2_moe", R"({"decoder_sparse_step": 0})", kBad, "decoder_sparse_step"},
      {"qwen2_moe", R"({"mlp_only_layers": 3})", kBad, "mlp_only_layers"},
      {"falcon_40b", R"({"parallel_attn": false})", kUnknown, "parallel_attn"},
      {"falcon_40b", R"({"num_ln_in_parallel_attn": 3})", kUnknown, "num_ln_in_parallel_attn"},
      {"falcon_7b", R"({"num_ln_in_parallel_attn": 2})", kUnknown, "num_ln_in_parallel_attn"},
      {"falcon_40b", R"({"num_kv_heads": 4})", kBad, "heads"},
      {"falcon_7b", R"({"hidden_size": 50})", kBad, "hidden_size"},
      {"mpt", R"({"attn_config": {"qk_ln": true}})", kUnknown, "attn_config: 'qk_ln'"},
      {"mpt", R"({"attn_config": {"alibi": false}})", kUnknown, "'alibi' is false"},
      {"mpt", R"({"attn_config": {"attn_type": "multiquery_attention"}})", kUnknown, "multiquery_attention"},
      {"mpt", R"({"attn_config": {"prefix_lm": true}})", kUnknown, "prefix_lm"},
      {"mpt", R"({"attn_config": {"clip_qkv": -1}})", kBad, "clip_qkv"},
      {"mpt", R"({"attn_config": 3})", kBad, "attn_config"},
      {"mpt", R"({"logit_scale": 2.0})", kUnknown, "logit_scale"},
      {"mpt", R"({"no_bias": false})", kUnknown, "no_bias"},
      {"mpt", R"({"norm_type": "rmsnorm"})", kUnknown, "norm_type"},
      {"gpt2", R"({"add_cross_attention": true})", kUnknown, "add_cross_attention"},
      {"gpt2", R"({"activation_function": "mish"})", kUnknown, "activation_function"},
      {"gpt2", R"({"n_head": 5})", kBad, "n_embd"},
      {"gpt2", R"({"n_embd": 4611686018427387904})", kBad, "n_embd"},
      {"gpt2", R"({"layer_norm_epsilon": 2})", kBad, "layer_norm_epsilon"},
      {"bloom", R"({"hidden_size": 2147483648})", kBad, "limit"},
      {"gpt_neo", R"({"attention_types": [[["global"], 3]]})", kBad, "attention_types"},
      {"gpt_neo", R"({"attention_types": [[["global", "sparse", "local"], 1]]})", kUnknown,
       "attention_types"},
      {"gpt_neo", R"({"attention_types": [[["global"], 9000000000000000000]]})", kBad, "attention_types"},
      {"gpt_neo", R"({"attention_types": [["global", 2]]})", kBad, "attention_types"},
      {"gptj", R"({"rotary_dim": 7})", kBad, "rotary_dim"},
      {"gptj", R"({"rotary_dim": 14})", kBad, "rotary_dim"},
      {"gptj", R"({"rotary_dim": "absent"})", kBad, "rotary_dim"},
      {"gptj", R"({"rotary_dim": null})", kUnknown, "rotary_dim"},
      {"gptj", R"({"tie_word_embeddings": true})", kUnknown, "tie_word_embeddings"},
      {"phi", R"({"tie_word_embeddings": true})", kUnknown, "tie_word_embeddings"},
      {"opt", R"({"word_embed_proj_dim": 0})", kBad, "word_embed_proj_dim"},
      {"opt", R"({"enable_bias": "yes"})", kBad, "enable_bias"},
      {"granite", R"({"logits_scaling": 0})", kBad, "logits_scaling"},
      {"granite", R"({"residual_multiplier": -1})", kBad, "residual_multiplier"},
      {"cohere", R"({"logit_scale": 0})", kBad, "logit_scale"},
      {"olmo", R"({"clip_qkv": 0})", kBad, "clip_qkv"},
      {"gemma3_multimodal", R"({"text_config": 3})", kUnknown, "gemma3"},
      {"gemma3_multimodal", R"({"text_config": {"model_type": "gemma4"}})", kUnknown, "gemma4"},
      {"gemma3_multimodal", R"({"text_config": {"hidden_size": -1}})", kBad, "hidden_size"},
      {"llava_multimodal", R"({"model_type": "paligemma"})", kUnknown, "paligemma"},
  };
  for (const Row& row : rows) {
    INFO(row.sample << ": " << row.changes);
    std::string message;
    ExitCode code = ExitCode::kOk;
    try {
      spec_of(row.sample, row.changes);
    } catch (const Error& error) {
      code = error.code();
      message = error.what();
    }
    CAPTURE(message);
    CHECK(code == row.code);
    CHECK(message.find(row.named) != std::string::npos);
  }
}

TEST_CASE("the older keys of the Hub mean the same models") {
  const Json hub = read_json_file(test::data("families/hub_configs.json"));
  REQUIRE(hub.size() > 25);
  for (const auto& [sample, config] : hub.items()) {
    INFO(sample);
    ModelSpec spec = model_spec_of(config);
    if (sample == "bloom") spec.max_positions = spec_of(sample).max_positions;  // seq_length, not saved today
    CHECK(spec == spec_of(sample));
  }
}

namespace {

// What must hold of any model that is let through, whatever its config.json says.
void check_sound(const ModelSpec& spec) {
  CHECK(spec.heads % spec.kv_heads == 0);
  CHECK((spec.head_dim > 0 && spec.hidden_size > 0 && spec.intermediate_size > 0 && spec.vocab_size > 0));
  CHECK((spec.by_layer.empty() || spec.by_layer.size() == static_cast<std::size_t>(spec.layers)));
  bool rotates = spec.by_layer.empty();
  for (const LayerSpec& layer : spec.by_layer) {
    rotates = rotates || layer.rope == LayerRope::kGlobal;
    if (layer.window < 0 || (layer.rope == LayerRope::kLocal && !spec.local_rope)) FAIL("a layer's traits");
    if (layer.experts && (spec.experts.experts < 1 || spec.experts.chosen > spec.experts.experts))
      FAIL("a layer's experts");
  }
  if (rotates) CHECK((spec.rope.rotary_dim >= 2 && spec.rope.rotary_dim <= spec.head_dim));
  for (const double number : {spec.norm_eps, spec.embedding_scale, spec.residual_scale, spec.logit_scale,
                              spec.attention_softcap, spec.logit_softcap, spec.qkv_limit, spec.rope.theta})
    CHECK(std::isfinite(number));
}

}  // namespace

TEST_CASE("whatever stands under a key, there is a sound model or an error") {
  const Json hostile =
      parse_json(R"([null, true, -1, 0, 1, 3, 65536, 2147483648, 9223372036854775807, 18446744073709551615,
                     -0.5, 0.3, 1e308, 5e-324, "", "gelu", [], [[]], [1], [null], ["full_attention"], {}, {"a": 1}])",
                 "values");
  int models = 0, errors = 0;
  const auto try_one = [&](const Json& config) {
    try {
      check_sound(model_spec_of(config));
      ++models;
    } catch (const Error& error) {
      CHECK((error.code() == ExitCode::kMalformed || error.code() == ExitCode::kUnsupported));
      ++errors;
    }
  };
  for (const char* sample : {"bloom",
                             "cohere",
                             "falcon_40b",
                             "gemma2",
                             "gemma3_text",
                             "gpt2_inverse_layer",
                             "gpt_bigcode",
                             "gpt_neo",
                             "gpt_neox",
                             "gptj",
                             "granite",
                             "mpt_6_heads",
                             "nemotron",
                             "olmo",
                             "opt",
                             "phi",
                             "phi3_longrope",
                             "qwen2",
                             "qwen2_moe",
                             "smollm3",
                             "stablelm",
                             "starcoder2",
                             "mistral3_multimodal"}) {
    INFO(sample);
    const Json config = test::family_config(sample);
    for (const auto& [key, value] : config.items()) {
      INFO(key);
      for (const Json& other : hostile) {
        INFO(other.dump());
        Json changed = config;
        changed[key] = other;
        try_one(changed);
        if (!value.is_object()) continue;
        for (const auto& [inner, unused] : value.items()) {
          changed[key] = value;
          changed[key][inner] = other;
          INFO(inner);
          try_one(changed);
        }
      }
    }
  }
  CHECK(models > 1000);
  CHECK(errors > 1000);
}
