#include "formats/families/layer_patterns.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace qtool {

std::vector<LayerSpec>& layers_of(ModelSpec& spec) {
  spec.by_layer.resize(static_cast<std::size_t>(spec.layers));
  return spec.by_layer;
}

std::int64_t window_of(const ConfigReader& config, std::int64_t absent) {
  constexpr ConfigKey kKey = {"sliding_window"};
  return config.null(kKey) ? 0 : config.size(kKey, absent, kMaxExtent);
}

void slide_everywhere(ModelSpec& spec, std::int64_t window) {
  if (window == 0) return;
  for (LayerSpec& layer : layers_of(spec)) layer.window = window;
}

std::vector<bool> sliding_layers(const ConfigReader& config, const ModelSpec& spec, LayerPattern pattern) {
  constexpr ConfigKey kKey = {"layer_types"};
  std::vector<bool> sliding(static_cast<std::size_t>(spec.layers));
  if (!config.has(kKey)) {
    for (int layer = 0; layer < spec.layers; ++layer)
      sliding[static_cast<std::size_t>(layer)] = pattern(config, layer);
    return sliding;
  }
  const std::vector<std::string> types = config.texts(kKey);
  if (types.size() != sliding.size())
    config.malformed("'layer_types' has " + std::to_string(types.size()) + " entries for " +
                     std::to_string(spec.layers) + " layers");
  for (std::size_t i = 0; i < types.size(); ++i) {
    sliding[i] = types[i] == "sliding_attention";
    if (!sliding[i] && types[i] != "full_attention")
      config.unsupported(kKey, "known are full_attention and sliding_attention");
  }
  return sliding;
}

void slide(const ConfigReader& config, ModelSpec& spec, const std::vector<bool>& sliding,
           std::int64_t absent) {
  if (std::find(sliding.begin(), sliding.end(), true) == sliding.end()) return;
  const std::int64_t window = window_of(config, absent);
  if (window == 0) config.malformed("there are sliding_attention layers, but no 'sliding_window'");
  std::vector<LayerSpec>& layers = layers_of(spec);
  for (std::size_t i = 0; i < sliding.size(); ++i)
    if (sliding[i]) layers[i].window = window;
}

bool all_but_every(const ConfigReader& config, ConfigKey key, std::int64_t absent, int layer) {
  return (layer + 1) % config.size(key, absent, kMaxLayers) != 0;
}

void place_experts(const ConfigReader& config, ModelSpec& spec) {
  const std::int64_t step = config.size({"decoder_sparse_step"}, 1, kMaxLayers);
  std::vector<LayerSpec>& layers = layers_of(spec);
  for (std::size_t i = 0; i < layers.size(); ++i)
    layers[i].experts = (static_cast<std::int64_t>(i) + 1) % step == 0;
  // A number beyond the layers names none, as in transformers.
  for (const std::int64_t layer : config.integers({"mlp_only_layers"}))
    if (layer >= 0 && layer < spec.layers) layers[static_cast<std::size_t>(layer)].experts = false;
}

std::vector<RepeatedPattern> repeated_patterns(const ConfigReader& config, ConfigKey key) {
  std::vector<RepeatedPattern> patterns;
  if (!config.has(key)) return patterns;
  const std::string wanted =
      "'" + std::string(key.name) + "' must be a list of pairs of a list of names and a number";
  const Json& list = config.json()[std::string(key.name)];
  if (!list.is_array()) config.malformed(wanted);
  std::int64_t total = 0;
  for (const Json& pair : list) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_array() || !pair[1].is_number_integer())
      config.malformed(wanted);
    RepeatedPattern pattern;
    for (const Json& type : pair[0]) {
      if (!type.is_string()) config.malformed(wanted);
      pattern.types.push_back(type.get<std::string>());
    }
    pattern.times = pair[1].get<std::int64_t>();
    const auto length = static_cast<std::int64_t>(pattern.types.size());
    if (pattern.times < 0 || length > kMaxLayers || pattern.times > kMaxLayers ||
        (total += length * pattern.times) > kMaxLayers)
      config.malformed("'" + std::string(key.name) + "' makes more layers than a model can have");
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

void scale_attention(ModelSpec& spec, double scale) {
  for (LayerSpec& layer : layers_of(spec)) layer.attention_scale = scale;
}

double attention_scale_of(const ModelSpec& spec) {
  const double own = spec.layer(0).attention_scale;
  return own != 0.0 ? own : 1.0 / std::sqrt(static_cast<double>(spec.head_dim));
}

}  // namespace qtool
