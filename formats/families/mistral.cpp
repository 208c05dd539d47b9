// Mistral (Nemo, Ministral 8B) and Mixtral: Llama with a sliding window, and with experts.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_mistral(const ConfigReader& config, ModelSpec& spec) {
  slide_everywhere(spec, window_of(config, 4096));
}

void configure_mixtral(const ConfigReader& config, ModelSpec& spec) {
  slide_everywhere(spec, window_of(config, 0));
  spec.experts.experts = static_cast<int>(config.size({"num_local_experts", "num_experts"}, 8, kMaxLayers));
  spec.experts.chosen = static_cast<int>(config.size({"num_experts_per_tok"}, 2, kMaxLayers));
  spec.experts.intermediate_size = spec.intermediate_size;
  spec.experts.normalized = true;
  for (LayerSpec& layer : layers_of(spec)) layer.experts = true;
}

}  // namespace

const Architecture kMistral{
    .class_names = {"MistralForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .model = {.model_type = "mistral",
              .vocab_size = 32000,
              .hidden_size = 4096,
              .intermediate_size = 14336,
              .layers = 32,
              .heads = 32,
              .kv_heads = 8,
              .max_positions = 131072,
              .norm_eps = 1e-6,
              .eos_ids = {2},
              .bos_id = 1},
    .configure = configure_mistral,
};

const Architecture kMixtral{
    .class_names = {"MixtralForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules_without(
        {Role::kGate, Role::kUp, Role::kDown},
        {{Role::kRouter, "model.layers.{}.block_sparse_moe.gate", ModuleKind::kOther},
         {Role::kExpertGate, "model.layers.{}.block_sparse_moe.experts.{}.w1", ModuleKind::kOther},
         {Role::kExpertUp, "model.layers.{}.block_sparse_moe.experts.{}.w3", ModuleKind::kOther},
         {Role::kExpertDown, "model.layers.{}.block_sparse_moe.experts.{}.w2", ModuleKind::kOther}}),
    .model = {.model_type = "mixtral",
              .vocab_size = 32000,
              .hidden_size = 4096,
              .intermediate_size = 14336,
              .layers = 32,
              .heads = 32,
              .kv_heads = 8,
              .max_positions = 131072,
              .norm_eps = 1e-5,
              .rope = {.theta = 1e6},
              .eos_ids = {2},
              .bos_id = 1},
    .configure = configure_mixtral,
};

}  // namespace qtool
