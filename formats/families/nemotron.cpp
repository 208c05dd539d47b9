// Nemotron-3 8B, Minitron: LayerNorms stored less 1, an MLP of squared ReLU without a gate.
#include "formats/families/families.h"

namespace qtool {

const Architecture kNemotron{
    .class_names = {"NemotronForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules_without({Role::kGate}, {}),
    .keys = {.norm_eps = {"norm_eps"},
             .qkv_bias = {"attention_bias"},
             .attention_output_bias = {"attention_bias"},
             .mlp_bias = {"mlp_bias"}},
    .rope = {.default_fraction = 0.5, .partial = true},
    .model = {.model_type = "nemotron",
              .vocab_size = 256000,
              .hidden_size = 6144,
              .intermediate_size = 24576,
              .layers = 32,
              .heads = 48,
              .max_positions = 4096,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .norm_plus_one = true,
              .gated_mlp = false,
              .activation = Activation::kRelu2,
              .eos_ids = {3},
              .bos_id = 2},
};

}  // namespace qtool
