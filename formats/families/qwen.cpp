// Qwen2, Qwen3 and their mixtures of experts.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

// Qwen2 and Qwen3 slide from layer 'max_window_layers' on, Qwen2-MoE in the even layers before it.
constexpr std::int64_t kMaxWindowLayers = 28;

bool slides_behind(const ConfigReader& config, int layer) {
  return layer >= config.integer({"max_window_layers"}, kMaxWindowLayers);
}

bool slides_before(const ConfigReader& config, int layer) {
  return layer % 2 == 0 && layer < config.integer({"max_window_layers"}, kMaxWindowLayers);
}

void slide_where(const ConfigReader& config, ModelSpec& spec, LayerPattern pattern) {
  if (!config.flag({"use_sliding_window"}, false)) return;
  if (config.null({"sliding_window"}) && !config.has({"layer_types"})) return;
  slide(config, spec, sliding_layers(config, spec, pattern), 4096);
}

void configure_dense(const ConfigReader& config, ModelSpec& spec) {
  slide_where(config, spec, slides_behind);
}

void read_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertSpec& experts = spec.experts;  // holds the defaults of the row
  experts.experts =
      static_cast<int>(config.size({"num_experts", "num_local_experts"}, experts.experts, kMaxLayers));
  experts.chosen = static_cast<int>(config.size({"num_experts_per_tok"}, experts.chosen, kMaxLayers));
  experts.intermediate_size = config.size({"moe_intermediate_size"}, experts.intermediate_size, kMaxExtent);
  experts.normalized = config.flag({"norm_topk_prob"}, experts.normalized);
  place_experts(config, spec);
}

void configure_qwen2_moe(const ConfigReader& config, ModelSpec& spec) {
  slide_where(config, spec, slides_before);
  spec.experts.shared_intermediate_size =
      config.size({"shared_expert_intermediate_size"}, spec.experts.shared_intermediate_size, kMaxExtent);
  read_experts(config, spec);
}

void configure_qwen3_moe(const ConfigReader& config, ModelSpec& spec) {
  if (config.flag({"use_sliding_window"}, false)) slide_everywhere(spec, window_of(config, 4096));
  read_experts(config, spec);
}

constexpr ModuleName kQueryNorm{Role::kQueryNorm, "model.layers.{}.self_attn.q_norm"};
constexpr ModuleName kKeyNorm{Role::kKeyNorm, "model.layers.{}.self_attn.k_norm"};
constexpr ModuleName kRouter{Role::kRouter, "model.layers.{}.mlp.gate", ModuleKind::kOther};
constexpr ModuleName kExpertGate{Role::kExpertGate, "model.layers.{}.mlp.experts.{}.gate_proj",
                                 ModuleKind::kOther};
constexpr ModuleName kExpertUp{Role::kExpertUp, "model.layers.{}.mlp.experts.{}.up_proj", ModuleKind::kOther};
constexpr ModuleName kExpertDown{Role::kExpertDown, "model.layers.{}.mlp.experts.{}.down_proj",
                                 ModuleKind::kOther};

constexpr ConfigKeys kAttentionBias = {.qkv_bias = {"attention_bias"},
                                       .attention_output_bias = {"attention_bias"}};

}  // namespace

const Architecture kQwen2{
    .class_names = {"Qwen2ForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .model = {.model_type = "qwen2",
              .vocab_size = 151936,
              .hidden_size = 4096,
              .intermediate_size = 22016,
              .layers = 32,
              .heads = 32,
              .kv_heads = 32,
              .max_positions = 32768,
              .norm_eps = 1e-6,
              .qkv_bias = true},
    .configure = configure_dense,
};

const Architecture kQwen2Moe{
    .class_names = {"Qwen2MoeForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules({kRouter,
                              kExpertGate,
                              kExpertUp,
                              kExpertDown,
                              {Role::kSharedGate, "model.layers.{}.mlp.shared_expert.gate_proj"},
                              {Role::kSharedUp, "model.layers.{}.mlp.shared_expert.up_proj"},
                              {Role::kSharedDown, "model.layers.{}.mlp.shared_expert.down_proj"},
                              {Role::kSharedWeight, "model.layers.{}.mlp.shared_expert_gate"}}),
    .keys = {.qkv_bias = {"qkv_bias"}},
    .model = {.model_type = "qwen2_moe",
              .vocab_size = 151936,
              .hidden_size = 2048,
              .intermediate_size = 5632,
              .layers = 24,
              .heads = 16,
              .kv_heads = 16,
              .max_positions = 32768,
              .norm_eps = 1e-6,
              .qkv_bias = true,
              .experts = {.experts = 60,
                          .chosen = 4,
                          .intermediate_size = 1408,
                          .normalized = false,
                          .shared_intermediate_size = 5632}},
    .configure = configure_qwen2_moe,
};

const Architecture kQwen3{
    .class_names = {"Qwen3ForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules({kQueryNorm, kKeyNorm}),
    .keys = kAttentionBias,
    .model = {.model_type = "qwen3",
              .vocab_size = 151936,
              .hidden_size = 4096,
              .intermediate_size = 22016,
              .layers = 32,
              .heads = 32,
              .kv_heads = 32,
              .head_dim = 128,
              .max_positions = 32768,
              .norm_eps = 1e-6,
              .qk_norm = QkNorm::kHead},
    .configure = configure_dense,
};

const Architecture kQwen3Moe{
    .class_names = {"Qwen3MoeForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules({kQueryNorm, kKeyNorm, kRouter, kExpertGate, kExpertUp, kExpertDown}),
    .keys = kAttentionBias,
    .model = {.model_type = "qwen3_moe",
              .vocab_size = 151936,
              .hidden_size = 2048,
              .intermediate_size = 6144,
              .layers = 24,
              .heads = 32,
              .kv_heads = 4,
              .max_positions = 32768,
              .norm_eps = 1e-6,
              .qk_norm = QkNorm::kHead,
              .experts = {.experts = 128, .chosen = 8, .intermediate_size = 768, .normalized = false}},
    .configure = configure_qwen3_moe,
};

}  // namespace qtool
