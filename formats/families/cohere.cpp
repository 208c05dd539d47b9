// Command R (Cohere) and R7B (Cohere2): parallel blocks behind one norm without bias, neighbouring columns
// rotate together, logits are scaled.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_cohere(const ConfigReader& config, ModelSpec& spec) {
  spec.logit_scale = config.positive({"logit_scale"}, 0.0625);
  if (!config.flag({"use_qk_norm"}, false)) return;
  spec.qk_norm = QkNorm::kEachHead;
  spec.qk_norm_kind = NormKind::kLayer;
}

// Layers that see everything do not rotate.
void configure_cohere2(const ConfigReader& config, ModelSpec& spec) {
  spec.logit_scale = config.positive({"logit_scale"}, 0.0625);
  const std::vector<bool> sliding = sliding_layers(config, spec, [](const ConfigReader& keys, int layer) {
    return all_but_every(keys, {"sliding_window_pattern"}, 4, layer);
  });
  slide(config, spec, sliding, 4096);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (!sliding[i]) layers_of(spec)[i].rope = LayerRope::kNone;
}

constexpr ConfigKeys kKeys = {.norm_eps = {"layer_norm_eps"},
                              .qkv_bias = {"attention_bias"},
                              .attention_output_bias = {"attention_bias"}};

}  // namespace

const Architecture kCohere{
    .class_names = {"CohereForCausalLM", "CohereModel"},
    .base_prefix = "model.",
    .modules =
        llama_modules_without({Role::kMlpNorm}, {{Role::kQueryNorm, "model.layers.{}.self_attn.q_norm"},
                                                 {Role::kKeyNorm, "model.layers.{}.self_attn.k_norm"}}),
    .keys = kKeys,
    .model = {.model_type = "cohere",
              .vocab_size = 256000,
              .hidden_size = 8192,
              .intermediate_size = 22528,
              .layers = 40,
              .heads = 64,
              .max_positions = 8192,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .parallel = true,
              .one_norm = true,
              .rope = {.theta = 5e5},
              .rope_pairs = RopePairs::kNeighbours,
              .tied_head = true,
              .eos_ids = {255001},
              .bos_id = 5},
    .configure = configure_cohere,
};

const Architecture kCohere2{
    .class_names = {"Cohere2ForCausalLM", "Cohere2Model"},
    .base_prefix = "model.",
    .modules = llama_modules_without({Role::kMlpNorm}, {}),
    .keys = kKeys,
    .model = {.model_type = "cohere2",
              .vocab_size = 256000,
              .hidden_size = 8192,
              .intermediate_size = 22528,
              .layers = 40,
              .heads = 64,
              .max_positions = 8192,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .parallel = true,
              .one_norm = true,
              .rope_pairs = RopePairs::kNeighbours,
              .tied_head = true,
              .eos_ids = {255001},
              .bos_id = 5},
    .configure = configure_cohere2,
};

}  // namespace qtool
