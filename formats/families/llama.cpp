// Llama 1 to 3.x and all that declare it (TinyLlama, CodeLlama, SmolLM2, Yi, DeepSeek-LLM, ...), and SmolLM3,
// which leaves every fourth layer unrotated.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

constexpr ConfigKeys kBiasKeys = {
    .qkv_bias = {"attention_bias"}, .attention_output_bias = {"attention_bias"}, .mlp_bias = {"mlp_bias"}};

// 'no_rope_layers' has a 1 for every layer that rotates.
void configure_smollm3(const ConfigReader& config, ModelSpec& spec) {
  std::vector<std::int64_t> rotates = config.integers({"no_rope_layers"});
  if (!config.has({"no_rope_layers"}))
    for (int layer = 0; layer < spec.layers; ++layer)
      rotates.push_back(all_but_every(config, {"no_rope_layer_interval"}, 4, layer));
  std::vector<LayerSpec>& layers = layers_of(spec);
  if (rotates.size() != layers.size())
    config.malformed("'no_rope_layers' has " + std::to_string(rotates.size()) + " entries for " +
                     std::to_string(spec.layers) + " layers");
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (rotates[i] == 0) layers[i].rope = LayerRope::kNone;

  if (!config.flag({"use_sliding_window"}, false)) return;
  std::vector<bool> sliding = sliding_layers(config, spec, [](const ConfigReader&, int) { return false; });
  if (!config.has({"layer_types"}) && config.has({"sliding_window"}))
    for (std::size_t i = 0; i < layers.size(); ++i) sliding[i] = rotates[i] == 0;
  slide(config, spec, sliding, 0);
}

}  // namespace

const Architecture kLlama{
    .class_names = {"LlamaForCausalLM", "LLaMAForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .keys = kBiasKeys,
    .model = {.model_type = "llama",
              .vocab_size = 32000,
              .hidden_size = 4096,
              .intermediate_size = 11008,
              .layers = 32,
              .heads = 32,
              .max_positions = 2048,
              .norm_eps = 1e-6,
              .eos_ids = {2},
              .bos_id = 1},
};

const Architecture kSmolLm3{
    .class_names = {"SmolLM3ForCausalLM", "SmolLM3Model"},
    .base_prefix = "model.",
    .modules = llama_modules(),
    .keys = kBiasKeys,
    .model = {.model_type = "smollm3",
              .vocab_size = 128256,
              .hidden_size = 2048,
              .intermediate_size = 11008,
              .layers = 36,
              .heads = 16,
              .kv_heads = 4,
              .max_positions = 32768,
              .norm_eps = 1e-6,
              .rope = {.theta = 2e6},
              .tied_head = true,
              .eos_ids = {128001},
              .bos_id = 128000},
    .configure = configure_smollm3,
};

}  // namespace qtool
