// StarCoder2: Llama's attention, GPT-2's MLP, LayerNorms.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_starcoder2(const ConfigReader& config, ModelSpec& spec) {
  slide_everywhere(spec, window_of(config, 0));
}

}  // namespace

const Architecture kStarcoder2{
    .class_names = {"Starcoder2ForCausalLM", "Starcoder2Model"},
    .base_prefix = "model.",
    .modules = llama_modules_without(
        {Role::kGate, Role::kUp, Role::kDown},
        {{Role::kUp, "model.layers.{}.mlp.c_fc"}, {Role::kDown, "model.layers.{}.mlp.c_proj"}}),
    .keys = {.norm_eps = {"norm_epsilon"},
             .qkv_bias = {"use_bias"},
             .attention_output_bias = {"use_bias"},
             .mlp_bias = {"use_bias"}},
    .model = {.model_type = "starcoder2",
              .vocab_size = 49152,
              .hidden_size = 3072,
              .intermediate_size = 12288,
              .layers = 30,
              .heads = 24,
              .kv_heads = 2,
              .max_positions = 4096,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .activation = Activation::kGeluTanh,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .tied_head = true,
              .eos_ids = {50256},
              .bos_id = 50256},
    .configure = configure_starcoder2,
};

}  // namespace qtool
