// Granite 3: Llama with four numbers in the flow.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_granite(const ConfigReader& config, ModelSpec& spec) {
  spec.embedding_scale = config.positive({"embedding_multiplier"}, 1.0);
  spec.residual_scale = config.positive({"residual_multiplier"}, 1.0);
  spec.logit_scale = 1.0 / config.positive({"logits_scaling"}, 1.0);
  scale_attention(spec, config.positive({"attention_multiplier"}, 1.0));
}

}  // namespace

const Architecture kGranite{
    .class_names = {"GraniteForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .keys = {.qkv_bias = {"attention_bias"},
             .attention_output_bias = {"attention_bias"},
             .mlp_bias = {"mlp_bias"}},
    .model = {.model_type = "granite",
              .vocab_size = 32000,
              .hidden_size = 4096,
              .intermediate_size = 11008,
              .layers = 32,
              .heads = 32,
              .max_positions = 2048,
              .norm_eps = 1e-6,
              .eos_ids = {2},
              .bos_id = 1},
    .configure = configure_granite,
};

}  // namespace qtool
