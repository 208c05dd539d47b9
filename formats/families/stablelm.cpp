// StableLM 2 and 3B: Llama with LayerNorms and a partly rotated head.
#include "formats/families/families.h"

namespace qtool {
namespace {

void configure_stablelm(const ConfigReader& config, ModelSpec& spec) {
  spec.parallel = config.flag({"use_parallel_residual"}, false);
  spec.one_norm = spec.parallel;
  if (!config.flag({"qk_layernorm"}, false)) return;
  spec.qk_norm = QkNorm::kEachHead;
  spec.qk_norm_kind = NormKind::kLayer;
}

}  // namespace

const Architecture kStableLm{
    .class_names = {"StableLmForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules({{Role::kQueryNorm, "model.layers.{}.self_attn.q_layernorm.norms.{}"},
                              {Role::kKeyNorm, "model.layers.{}.self_attn.k_layernorm.norms.{}"}}),
    .keys = {.head_dim = {}, .norm_eps = {"layer_norm_eps"}, .qkv_bias = {"use_qkv_bias"}},
    .rope = {.default_fraction = 0.25, .partial = true},
    .model = {.model_type = "stablelm",
              .vocab_size = 50304,
              .hidden_size = 2560,
              .intermediate_size = 6912,
              .layers = 32,
              .heads = 32,
              .kv_heads = 32,
              .max_positions = 4096,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .eos_ids = {0},
              .bos_id = 0},
    .configure = configure_stablelm,
};

}  // namespace qtool
