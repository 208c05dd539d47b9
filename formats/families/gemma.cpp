// Gemma 1 to 3: norms whose weights are stored less 1, embeddings times sqrt(hidden_size).
#include <cmath>

#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void scale_embedding(const ConfigReader& config, ModelSpec& spec) {
  config.refuse_if({"use_bidirectional_attention"}, "qtool computes causal attention only");
  spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
}

void configure_gemma(const ConfigReader& config, ModelSpec& spec) {
  scale_embedding(config, spec);
  // Google's own files say "gelu" and mean its approximation.
  if (spec.activation == Activation::kGeluErf) spec.activation = Activation::kGeluTanh;
}

// A cap, or none where it is null.
double softcap(const ConfigReader& config, ConfigKey key, double absent) {
  return config.null(key) ? 0.0 : config.positive(key, absent);
}

void read_gemma2_traits(const ConfigReader& config, double attention_cap, double logit_cap, ModelSpec& spec) {
  scale_embedding(config, spec);
  spec.attention_softcap = softcap(config, {"attn_logit_softcapping"}, attention_cap);
  spec.logit_softcap = softcap(config, {"final_logit_softcapping"}, logit_cap);
  scale_attention(spec, 1.0 / std::sqrt(config.positive({"query_pre_attn_scalar"}, 256.0)));
}

void configure_gemma2(const ConfigReader& config, ModelSpec& spec) {
  read_gemma2_traits(config, 50.0, 30.0, spec);
  slide(config, spec,
        sliding_layers(config, spec, [](const ConfigReader&, int layer) { return layer % 2 == 0; }), 4096);
}

void configure_gemma3(const ConfigReader& config, ModelSpec& spec) {
  read_gemma2_traits(config, 0.0, 0.0, spec);
  read_ropes_by_layer_type(config, {"rope_local_base_freq"}, 1e4, spec);
  const std::vector<bool> sliding = sliding_layers(config, spec, [](const ConfigReader& keys, int layer) {
    return all_but_every(keys, {"sliding_window_pattern"}, 6, layer);
  });
  slide(config, spec, sliding, 4096);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) layers_of(spec)[i].rope = LayerRope::kLocal;
}

// The embedding's scale, in the model's dtype.
std::int64_t scale_buffer(const ModelSpec& spec) { return size_of(spec.dtype); }

constexpr ModuleName kPreFeedforward{Role::kMlpNorm, "model.layers.{}.pre_feedforward_layernorm"};
constexpr ModuleName kPostAttention{Role::kAttentionOutputNorm, "model.layers.{}.post_attention_layernorm"};
constexpr ModuleName kPostFeedforward{Role::kMlpOutputNorm, "model.layers.{}.post_feedforward_layernorm"};

constexpr ConfigKeys kGemma2Keys = {.activation = {"hidden_activation"},
                                    .qkv_bias = {"attention_bias"},
                                    .attention_output_bias = {"attention_bias"}};

}  // namespace

const Architecture kGemma{
    .class_names = {"GemmaForCausalLM", "GemmaModel"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .keys = {.qkv_bias = {"attention_bias"}, .attention_output_bias = {"attention_bias"}},
    .model = {.model_type = "gemma",
              .vocab_size = 256000,
              .hidden_size = 3072,
              .intermediate_size = 24576,
              .layers = 28,
              .heads = 16,
              .kv_heads = 16,
              .head_dim = 256,
              .max_positions = 8192,
              .norm_eps = 1e-6,
              .norm_plus_one = true,
              .activation = Activation::kGeluTanh,
              .tied_head = true,
              .eos_ids = {1},
              .bos_id = 2},
    .configure = configure_gemma,
    .more_buffers = scale_buffer,
};

const Architecture kGemma2{
    .class_names = {"Gemma2ForCausalLM", "Gemma2Model"},
    .base_prefix = "model.",
    .modules = llama_modules_without({Role::kMlpNorm}, {kPostAttention, kPreFeedforward, kPostFeedforward}),
    .keys = kGemma2Keys,
    .model = {.model_type = "gemma2",
              .vocab_size = 256000,
              .hidden_size = 2304,
              .intermediate_size = 9216,
              .layers = 26,
              .heads = 8,
              .kv_heads = 4,
              .head_dim = 256,
              .max_positions = 8192,
              .norm_place = NormPlace::kBeforeAfter,
              .norm_eps = 1e-6,
              .norm_plus_one = true,
              .activation = Activation::kGeluTanh,
              .tied_head = true,
              .eos_ids = {1},
              .bos_id = 2},
    .configure = configure_gemma2,
    .more_buffers = scale_buffer,
};

const Architecture kGemma3{
    .class_names = {"Gemma3ForCausalLM", "Gemma3TextModel"},
    .base_prefix = "model.",
    .modules =
        llama_modules_without({Role::kMlpNorm}, {kPostAttention,
                                                 kPreFeedforward,
                                                 kPostFeedforward,
                                                 {Role::kQueryNorm, "model.layers.{}.self_attn.q_norm"},
                                                 {Role::kKeyNorm, "model.layers.{}.self_attn.k_norm"}}),
    .keys = kGemma2Keys,
    .rotation = Rotation::kOwn,
    .model = {.model_type = "gemma3_text",
              .vocab_size = 262208,
              .hidden_size = 2304,
              .intermediate_size = 9216,
              .layers = 26,
              .heads = 8,
              .kv_heads = 4,
              .head_dim = 256,
              .max_positions = 131072,
              .norm_place = NormPlace::kBeforeAfter,
              .norm_eps = 1e-6,
              .norm_plus_one = true,
              .qk_norm = QkNorm::kHead,
              .activation = Activation::kGeluTanh,
              .rope = {.theta = 1e6},
              .tied_head = true,
              .eos_ids = {1},
              .bos_id = 2},
    .configure = configure_gemma3,
    .more_buffers = scale_buffer,
};

}  // namespace qtool
