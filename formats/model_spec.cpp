// config.json, generation_config.json and the tensors' shapes -> ModelSpec.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/limits.h"
#include "formats/architecture_row.h"
#include "formats/architectures.h"
#include "formats/shape_check.h"
#include "formats/tensor_names.h"

namespace qtool {
namespace {

constexpr const char* kWhat = "config.json";

[[noreturn]] void malformed(const std::string& message) {
  throw Error(ExitCode::kMalformed, "config.json: " + message);
}

struct ActivationName {
  std::string_view name;
  Activation activation;
};
constexpr std::array<ActivationName, 11> kActivations{{{"silu", Activation::kSilu},
                                                       {"swish", Activation::kSilu},
                                                       {"gelu", Activation::kGeluErf},
                                                       {"gelu_python", Activation::kGeluErf},
                                                       {"gelu_new", Activation::kGeluTanh},
                                                       {"gelu_pytorch_tanh", Activation::kGeluTanh},
                                                       {"gelu_python_tanh", Activation::kGeluTanh},
                                                       {"gelu_fast", Activation::kGeluTanh},
                                                       {"relu", Activation::kRelu},
                                                       {"relu2", Activation::kRelu2},
                                                       {"quick_gelu", Activation::kQuickGelu}}};

Activation activation_of(const ConfigReader& config, ConfigKey key, Activation absent) {
  if (key.name.empty() || !config.has(key)) return absent;
  const std::string name = config.text(key, "");
  std::string known;
  for (const ActivationName& row : kActivations) {
    if (row.name == name) return row.activation;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  config.unsupported(key, "this activation is not known; known are " + known);
}

DType model_dtype(const std::string& name) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    if (info(dtype).torch_name == name) return dtype;
  throw Error(ExitCode::kUnsupported,
              "config.json: 'dtype' must be float32, float16 or bfloat16, is '" + escaped(name) + "'");
}

// `dtype` (transformers 5) or `torch_dtype` (4); nothing if neither says more than "auto".
std::optional<DType> dtype_in(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (const std::string name = optional_string(config, key, "auto", kWhat); name != "auto")
      return model_dtype(name);
  return std::nullopt;
}

// A token id or a list of them; nothing when the key is absent or null.
std::optional<std::vector<std::int64_t>> ids_in(const Json& config, const char* key,
                                                const std::string& what) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::nullopt;
  std::vector<std::int64_t> ids;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (!id.is_number_integer() || id > INT32_MAX || id < INT32_MIN)
      throw Error(ExitCode::kMalformed, what + ": '" + key + "' must be a token id or a list of token ids");
    if (ids.size() == kMaxSpecialIds)
      throw Error(ExitCode::kMalformed,
                  what + ": '" + key + "' lists more than " + std::to_string(kMaxSpecialIds) + " token ids");
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

void read_special_ids(const Json& config, const std::string& what, ModelSpec& spec) {
  if (const auto ids = ids_in(config, "eos_token_id", what)) spec.eos_ids = *ids;
  if (const auto ids = ids_in(config, "bos_token_id", what); ids && !ids->empty()) spec.bos_id = ids->front();
}

bool same_bytes(const Checkpoint& checkpoint, const StoredTensor& a, const StoredTensor& b) {
  if (a.info.dtype != b.info.dtype || a.info.shape != b.info.shape) return false;
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::vector<std::byte> bytes_a(kPiece), bytes_b(kPiece);
  for (std::int64_t at = 0; at < a.info.bytes; at += kPiece) {
    const auto size = static_cast<std::size_t>(std::min(kPiece, a.info.bytes - at));
    checkpoint.read(a, at, std::span(bytes_a).first(size));
    checkpoint.read(b, at, std::span(bytes_b).first(size));
    if (std::memcmp(bytes_a.data(), bytes_b.data(), size) != 0) return false;
  }
  return true;
}

// A pair that config.json ties but the file stores twice with different values is not tied: transformers 5's
// rule.
bool differs_from_embedding(const Checkpoint& checkpoint, const Architecture& architecture) {
  const std::string embedding = stored_module(checkpoint, architecture, Role::kEmbedding, -1) + ".weight";
  const std::string head = stored_module(checkpoint, architecture, Role::kHead, -1) + ".weight";
  return checkpoint.has(embedding) && checkpoint.has(head) &&
         !same_bytes(checkpoint, checkpoint.at(embedding), checkpoint.at(head));
}

// The dtype of a model whose config.json does not say it: that of its embedding.
DType stored_dtype(const Checkpoint& checkpoint, const Architecture& architecture) {
  for (const Role role : {Role::kEmbedding, Role::kHead}) {
    const std::string name = stored_module(checkpoint, architecture, role, -1) + ".weight";
    if (checkpoint.has(name))
      return model_dtype(std::string(info(checkpoint.at(name).info.dtype).torch_name));
  }
  throw Error(ExitCode::kMalformed, "'" + escaped(checkpoint.folder()) + "' has no embedding",
              checkpoint.folder());
}

// The numbers that every model has. Those without which a config.json is no use must be there, unless it is
// part of a multimodal one, which leaves out what its class has by default.
void read_sizes(const ConfigReader& config, const ConfigKeys& keys, bool complete, ModelSpec& spec) {
  const auto size = [&](ConfigKey key, std::int64_t absent, std::int64_t max = kMaxExtent) {
    return complete ? config.size(key, max) : config.size(key, absent, max);
  };
  spec.vocab_size = size({"vocab_size"}, spec.vocab_size);
  spec.hidden_size = size(keys.hidden_size, spec.hidden_size);
  spec.layers = static_cast<int>(size(keys.layers, spec.layers, kMaxLayers));
  spec.heads = static_cast<int>(size(keys.heads, spec.heads, kMaxLayers));

  const bool of_heads = spec.kv_heads == 0 || keys.kv_heads.name.empty() || config.null(keys.kv_heads);
  spec.kv_heads = of_heads ? spec.heads : spec.kv_heads;
  if (!keys.kv_heads.name.empty())
    spec.kv_heads = static_cast<int>(config.size(keys.kv_heads, spec.kv_heads, kMaxLayers));
  if (spec.heads % spec.kv_heads != 0)
    malformed(config.shown(keys.kv_heads) + " (" + std::to_string(spec.kv_heads) + ") must divide " +
              config.shown(keys.heads) + " (" + std::to_string(spec.heads) + ")");

  if (!keys.head_dim.name.empty())
    spec.head_dim = static_cast<int>(config.size(keys.head_dim, spec.head_dim, kMaxExtent / spec.heads));
  if (spec.head_dim == 0) {
    if (spec.hidden_size % spec.heads != 0)
      malformed(config.shown(keys.hidden_size) + " (" + std::to_string(spec.hidden_size) +
                ") must be a multiple of " + config.shown(keys.heads) + " (" + std::to_string(spec.heads) +
                ")" + (keys.head_dim.name.empty() ? "" : ", or 'head_dim' be given"));
    spec.head_dim = static_cast<int>(spec.hidden_size / spec.heads);
  }

  if (spec.intermediate_size == 0) {
    spec.intermediate_size = 4 * spec.hidden_size;
    if (!keys.intermediate_size.name.empty())
      spec.intermediate_size = config.size(keys.intermediate_size, spec.intermediate_size, kMaxExtent);
  } else {
    spec.intermediate_size = size(keys.intermediate_size, spec.intermediate_size);
  }
  spec.max_positions = config.size(keys.max_positions, spec.max_positions, kMaxExtent);
}

void read_switches(const ConfigReader& config, const ConfigKeys& keys, ModelSpec& spec) {
  const auto flag = [&](ConfigKey key, bool& value) {
    if (!key.name.empty()) value = config.flag(key, value);
  };
  flag(keys.qkv_bias, spec.qkv_bias);
  flag(keys.attention_output_bias, spec.attention_output_bias);
  flag(keys.mlp_bias, spec.mlp_bias);
  flag({"tie_word_embeddings"}, spec.tied_head);
}

// What holds between numbers, whatever family they come from.
void check(const ModelSpec& spec) {
  if (spec.heads % spec.kv_heads != 0)
    malformed("the heads of keys and values (" + std::to_string(spec.kv_heads) +
              ") must divide the heads of queries (" + std::to_string(spec.heads) + ")");
  if (std::max(spec.intermediate_size, spec.hidden_size) > kMaxExtent)
    malformed("the MLP would be " + std::to_string(spec.intermediate_size) + " wide; the limit is " +
              std::to_string(kMaxExtent));
  if (spec.tied_head && spec.head_bias)
    throw Error(ExitCode::kUnsupported, "config.json: 'tie_word_embeddings' is true: the output head of " +
                                            spec.model_type +
                                            " has a bias, and qtool ties heads without one only");
  const bool any_experts = std::any_of(spec.by_layer.begin(), spec.by_layer.end(),
                                       [](const LayerSpec& layer) { return layer.experts; });
  if (!any_experts) return;
  if (spec.experts.chosen > spec.experts.experts)
    malformed("'num_experts_per_tok' (" + std::to_string(spec.experts.chosen) +
              ") is more than there are experts (" + std::to_string(spec.experts.experts) + ")");
  if (std::int64_t{spec.experts.experts} * spec.layers > kMaxExperts)
    malformed("there are more than " + std::to_string(kMaxExperts) + " experts in all layers");
}

}  // namespace

ModelSpec model_spec_of(const Json& whole) {
  const Architecture& architecture = architecture_of(whole);
  const Json language = language_config(whole);
  const ConfigReader config(language);
  ModelSpec spec = architecture.model;
  spec.architecture = architecture.class_names.front();
  const bool complete = language == whole;
  read_sizes(config, architecture.keys, complete, spec);
  read_switches(config, architecture.keys, spec);
  spec.activation = activation_of(config, architecture.keys.activation, spec.activation);
  if (!architecture.keys.norm_eps.name.empty()) {
    spec.norm_eps = config.number(architecture.keys.norm_eps, spec.norm_eps);
    if (!(spec.norm_eps >= 0.0 && spec.norm_eps < 1.0))
      malformed(config.shown(architecture.keys.norm_eps) + " must be between 0 and 1");
  }
  if (architecture.rotation == Rotation::kConfigured)
    spec.rope = rope_spec_of(config, architecture.rope, spec);
  else if (architecture.rotation == Rotation::kNone)
    spec.by_layer.assign(static_cast<std::size_t>(spec.layers), LayerSpec{.rope = LayerRope::kNone});
  spec.dtype = dtype_in(language).value_or(DType::kF32);  // torch's own default
  read_special_ids(language, kWhat, spec);
  if (architecture.configure) architecture.configure(config, spec);
  check(spec);
  if (std::all_of(spec.by_layer.begin(), spec.by_layer.end(),
                  [](const LayerSpec& layer) { return layer == LayerSpec{}; }))
    spec.by_layer.clear();  // one form of the same
  return spec;
}

ModelSpec model_spec_of(const Checkpoint& checkpoint) {
  try {
    const Architecture& architecture = architecture_of(checkpoint.config());
    ModelSpec spec = model_spec_of(checkpoint.config());
    if (!dtype_in(language_config(checkpoint.config()))) spec.dtype = stored_dtype(checkpoint, architecture);
    if (spec.tied_head && differs_from_embedding(checkpoint, architecture)) spec.tied_head = false;
    check_shapes(checkpoint, architecture, spec);
    const std::string generation = checkpoint.folder() + "/generation_config.json";
    if (exists(generation)) {
      const Json json = read_json_file(generation);
      if (!json.is_object())
        throw Error(ExitCode::kMalformed, generation + ": must be an object", generation);
      read_special_ids(json, generation, spec);
    }
    return spec;
  } catch (const Error& error) {
    throw error.path().empty() ? error.within(escaped(checkpoint.folder()), checkpoint.folder()) : error;
  }
}

}  // namespace qtool
