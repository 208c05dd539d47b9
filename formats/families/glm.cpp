// GLM-4 9B (glm) and GLM-4-0414 (glm4): fused gate and up, half of each head rotates, by neighbours.
#include "formats/families/families.h"

namespace qtool {
namespace {

std::vector<ModuleName> glm_modules(std::initializer_list<ModuleName> more) {
  std::vector<ModuleName> modules =
      llama_modules_without({Role::kGate, Role::kUp}, {{Role::kGateUp, "model.layers.{}.mlp.gate_up_proj"}});
  modules.insert(modules.end(), more.begin(), more.end());
  return modules;
}

}  // namespace

const Architecture kGlm{
    .class_names = {"GlmForCausalLM"},
    .base_prefix = "model.",
    .modules = glm_modules({}),
    .keys = {.qkv_bias = {"attention_bias"}},
    .rope = {.default_fraction = 0.5, .partial = true},
    .model = {.model_type = "glm",
              .vocab_size = 151552,
              .hidden_size = 4096,
              .intermediate_size = 13696,
              .layers = 40,
              .heads = 32,
              .kv_heads = 2,
              .head_dim = 128,
              .max_positions = 131072,
              .norm_eps = 1.5625e-7,
              .fused_gate_up = true,
              .qkv_bias = true,
              .rope_pairs = RopePairs::kNeighbours,
              .eos_ids = {151329, 151336, 151338}},
};

const Architecture kGlm4{
    .class_names = {"Glm4ForCausalLM"},
    .base_prefix = "model.",
    .modules = glm_modules({{Role::kAttentionOutputNorm, "model.layers.{}.post_self_attn_layernorm"},
                            {Role::kMlpOutputNorm, "model.layers.{}.post_mlp_layernorm"}}),
    .keys = {.qkv_bias = {"attention_bias"}},
    .rope = {.default_fraction = 0.5, .partial = true},
    .model = {.model_type = "glm4",
              .vocab_size = 151552,
              .hidden_size = 4096,
              .intermediate_size = 13696,
              .layers = 40,
              .heads = 32,
              .kv_heads = 2,
              .head_dim = 128,
              .max_positions = 131072,
              .norm_place = NormPlace::kBeforeAfter,
              .norm_eps = 1.5625e-7,
              .fused_gate_up = true,
              .qkv_bias = true,
              .rope_pairs = RopePairs::kNeighbours,
              .eos_ids = {151329, 151336, 151338}},
};

}  // namespace qtool
