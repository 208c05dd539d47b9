// OLMo 1 to 3: norms without weights in the first, behind the blocks in the others.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_olmo(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_limit = config.positive({"clip_qkv"}, 0.0);
}

void configure_olmo3(const ConfigReader& config, ModelSpec& spec) {
  read_ropes_by_layer_type(config, {"rope_theta"}, spec.rope.theta, spec);
  const std::vector<bool> sliding =
      sliding_layers(config, spec, [](const ConfigReader&, int layer) { return (layer + 1) % 4 != 0; });
  slide(config, spec, sliding, 4096);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) layers_of(spec)[i].rope = LayerRope::kLocal;
}

constexpr ConfigKeys kKeys = {.qkv_bias = {"attention_bias"}, .attention_output_bias = {"attention_bias"}};

std::vector<ModuleName> olmo2_modules() {
  return llama_modules_without({Role::kInputNorm, Role::kMlpNorm},
                               {{Role::kInputNorm, "model.layers.{}.post_attention_layernorm"},
                                {Role::kMlpNorm, "model.layers.{}.post_feedforward_layernorm"},
                                {Role::kQueryNorm, "model.layers.{}.self_attn.q_norm"},
                                {Role::kKeyNorm, "model.layers.{}.self_attn.k_norm"}});
}

}  // namespace

const Architecture kOlmo{
    .class_names = {"OlmoForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .keys = {.norm_eps = {}, .qkv_bias = {"attention_bias"}, .attention_output_bias = {"attention_bias"}},
    .model = {.model_type = "olmo",
              .vocab_size = 50304,
              .hidden_size = 4096,
              .intermediate_size = 11008,
              .layers = 32,
              .heads = 32,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_weight = false,
              .eos_ids = {50279}},
    .configure = configure_olmo,
};

const Architecture kOlmo2{
    .class_names = {"Olmo2ForCausalLM"},
    .base_prefix = "model.",
    .modules = olmo2_modules(),
    .keys = kKeys,
    .model = {.model_type = "olmo2",
              .vocab_size = 50304,
              .hidden_size = 4096,
              .intermediate_size = 11008,
              .layers = 32,
              .heads = 32,
              .max_positions = 2048,
              .norm_place = NormPlace::kAfter,
              .norm_eps = 1e-5,
              .qk_norm = QkNorm::kAll,
              .eos_ids = {50279}},
};

const Architecture kOlmo3{
    .class_names = {"Olmo3ForCausalLM"},
    .base_prefix = "model.",
    .modules = olmo2_modules(),
    .keys = kKeys,
    .rotation = Rotation::kOwn,
    .model = {.model_type = "olmo3",
              .vocab_size = 50304,
              .hidden_size = 4096,
              .intermediate_size = 11008,
              .layers = 32,
              .heads = 32,
              .max_positions = 2048,
              .norm_place = NormPlace::kAfter,
              .norm_eps = 1e-5,
              .qk_norm = QkNorm::kAll,
              .rope = {.theta = 5e5},
              .eos_ids = {50279}},
    .configure = configure_olmo3,
};

}  // namespace qtool
