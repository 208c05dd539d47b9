// What families say about single layers, one function a concept: windows, layers without rotation, mixtures
// of experts, attention scales. Each fills ModelSpec::by_layer. Errors: those of ConfigReader.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/spec.h"
#include "formats/config_reader.h"

namespace qtool {

// spec.by_layer, one entry a layer.
std::vector<LayerSpec>& layers_of(ModelSpec& spec);

// 'sliding_window': nothing where it is null; `absent` where there is no such key (0: none, too).
std::int64_t window_of(const ConfigReader& config, std::int64_t absent);

// The same window in every layer.
void slide_everywhere(ModelSpec& spec, std::int64_t window);

// Layers that 'layer_types' calls "sliding_attention"; without that list, those that `pattern` picks.
// Errors: kMalformed for a list of another length; kUnsupported for other types than "full_attention".
using LayerPattern = bool (*)(const ConfigReader& config, int layer);
std::vector<bool> sliding_layers(const ConfigReader& config, const ModelSpec& spec, LayerPattern pattern);

// Gives those layers the window 'sliding_window'. Errors: kMalformed if there are some, but no window.
void slide(const ConfigReader& config, ModelSpec& spec, const std::vector<bool>& sliding,
           std::int64_t absent);

// The pattern of families in which every n-th layer is full: not (layer + 1) % n.
bool all_but_every(const ConfigReader& config, ConfigKey key, std::int64_t absent, int layer);

// Experts in every layer but those of 'mlp_only_layers' and those that 'decoder_sparse_step' leaves out.
void place_experts(const ConfigReader& config, ModelSpec& spec);

// GPT-Neo's lists of types with their numbers of repetitions, [[["global", "local"], 12]]; [] if absent. No
// longer than kMaxLayers together. Errors: kMalformed for anything else.
struct RepeatedPattern {
  std::vector<std::string> types;
  std::int64_t times = 0;
};
std::vector<RepeatedPattern> repeated_patterns(const ConfigReader& config, ConfigKey key);

// q * k times `scale` in every layer.
void scale_attention(ModelSpec& spec, double scale);

// The scale of the first layer, which no layer's own has replaced yet: 1 / sqrt(head_dim) unless set.
double attention_scale_of(const ModelSpec& spec);

}  // namespace qtool
