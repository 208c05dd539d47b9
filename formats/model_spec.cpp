// config.json, generation_config.json and the tensors' shapes -> ModelSpec.
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/model/role_shape.h"
#include "formats/architecture_row.h"
#include "formats/architectures.h"
#include "formats/rope_config.h"
#include "formats/stored_weight.h"

namespace qtool {
namespace {

constexpr const char* kWhat = "config.json";
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;  // of a tensor: products of two cannot overflow
constexpr int kMaxLayers = 1 << 16;

[[noreturn]] void malformed(const std::string& message) {
  throw Error(ExitCode::kMalformed, "config.json: " + message);
}

std::int64_t in_range(const char* key, std::int64_t value, std::int64_t max) {
  if (value < 1 || value > max)
    malformed(std::string("'") + key + "' must be between 1 and " + std::to_string(max) + ", is " +
              std::to_string(value));
  return value;
}

std::int64_t required_size(const Json& config, const char* key, std::int64_t max = kMaxExtent) {
  return in_range(key, required_int(config, key, kWhat), max);
}

bool switched_on(const Json& config, std::string_view key) {
  return !key.empty() && optional_bool(config, std::string(key).c_str(), false, kWhat);
}

struct ActivationName {
  std::string_view name;
  Activation activation;
};
constexpr std::array<ActivationName, 8> kActivations{{{"silu", Activation::kSilu},
                                                      {"swish", Activation::kSilu},
                                                      {"gelu", Activation::kGeluErf},
                                                      {"gelu_python", Activation::kGeluErf},
                                                      {"gelu_new", Activation::kGeluTanh},
                                                      {"gelu_pytorch_tanh", Activation::kGeluTanh},
                                                      {"gelu_fast", Activation::kGeluTanh},
                                                      {"relu", Activation::kRelu}}};

Activation activation_of(const Json& config) {
  const std::string name = optional_string(config, "hidden_act", "silu", kWhat);
  std::string known;
  for (const ActivationName& row : kActivations) {
    if (row.name == name) return row.activation;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ExitCode::kUnsupported, "config.json: activation 'hidden_act' '" + escaped(name) +
                                          "' is not known; known are " + known);
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
    if (!id.is_number_integer())
      throw Error(ExitCode::kMalformed, what + ": '" + key + "' must be a token id or a list of token ids");
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

void read_special_ids(const Json& config, const std::string& what, ModelSpec& spec) {
  if (const auto ids = ids_in(config, "eos_token_id", what)) spec.eos_ids = *ids;
  if (const auto ids = ids_in(config, "bos_token_id", what); ids && !ids->empty()) spec.bos_id = ids->front();
}

bool has_bias(const ModelSpec& spec, Role role) {
  switch (role) {
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
      return spec.qkv_bias;
    case Role::kAttentionOutput:
      return spec.attention_output_bias;
    case Role::kGate:
    case Role::kUp:
    case Role::kDown:
      return spec.mlp_bias;
    default:
      return false;
  }
}

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

// Compares a checkpoint's tensors with what config.json promises.
class ShapeCheck {
 public:
  ShapeCheck(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec)
      : checkpoint_(checkpoint), architecture_(architecture), spec_(spec) {}

  void all() const {
    for (const ModuleName& row : architecture_.modules) {
      const bool in_layers = row.name.find("{}") != std::string_view::npos;
      for (int layer = in_layers ? 0 : -1; layer < (in_layers ? spec_.layers : 0); ++layer)
        module(row.role, layer);
    }
  }

 private:
  void module(Role role, int layer) const {
    const std::string name = module_name(architecture_, role, layer);
    // Of a tied pair either name may be left out.
    if (spec_.tied_head && (role == Role::kHead || role == Role::kEmbedding) &&
        !checkpoint_.has(name + ".weight") &&
        checkpoint_.has(module_name(architecture_, role == Role::kHead ? Role::kEmbedding : Role::kHead, -1) +
                        ".weight"))
      return;
    const StoredWeight stored = stored_weight_of(checkpoint_, name);
    expect(name + ".weight", stored.shape, role_shape(spec_, role));
    if (stored.spec.method != QuantMethod::kNone && !is_linear(role))
      throw Error(ExitCode::kUnsupported,
                  "'" + name + "' is quantized, but qtool reads only quantized linear layers");
    bias(role, name);
  }

  void bias(Role role, const std::string& name) const {
    const std::string full = name + ".bias";
    if (!has_bias(spec_, role)) {
      if (checkpoint_.has(full))
        throw Error(ExitCode::kMalformed,
                    "'" + full + "' is there, but by config.json the layer has no bias");
      return;
    }
    const TensorInfo& tensor = checkpoint_.at(full).info;
    expect(full, tensor.shape, {role_shape(spec_, role)[0]});
    if (!info(tensor.dtype).is_float)
      throw Error(ExitCode::kMalformed, "'" + full + "' must be of floating-point numbers");
  }

  void expect(const std::string& name, const Shape& is, const Shape& should_be) const {
    if (is == should_be) return;
    throw Error(ExitCode::kMalformed, "tensor '" + name + "' has shape " + text_of(is) +
                                          ", but by config.json it is " + text_of(should_be));
  }

  const Checkpoint& checkpoint_;
  const Architecture& architecture_;
  const ModelSpec& spec_;
};

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
  const std::string embedding = module_name(architecture, Role::kEmbedding, -1) + ".weight";
  const std::string head = module_name(architecture, Role::kHead, -1) + ".weight";
  return checkpoint.has(embedding) && checkpoint.has(head) &&
         !same_bytes(checkpoint, checkpoint.at(embedding), checkpoint.at(head));
}

// The dtype of a model whose config.json does not say it: that of its embedding.
DType stored_dtype(const Checkpoint& checkpoint, const Architecture& architecture) {
  for (const Role role : {Role::kEmbedding, Role::kHead}) {
    const std::string name = module_name(architecture, role, -1) + ".weight";
    if (checkpoint.has(name))
      return model_dtype(std::string(info(checkpoint.at(name).info.dtype).torch_name));
  }
  throw Error(ExitCode::kMalformed, "'" + escaped(checkpoint.folder()) + "' has no embedding",
              checkpoint.folder());
}

}  // namespace

ModelSpec model_spec_of(const Json& config) {
  const Architecture& architecture = architecture_of(config);
  ModelSpec spec;
  spec.architecture = architecture.class_names.front();
  spec.model_type = architecture.model_type;
  spec.vocab_size = required_size(config, "vocab_size");
  spec.hidden_size = required_size(config, "hidden_size");
  spec.intermediate_size = required_size(config, "intermediate_size");
  spec.layers = static_cast<int>(required_size(config, "num_hidden_layers", kMaxLayers));
  spec.heads = static_cast<int>(required_size(config, "num_attention_heads", kMaxLayers));
  spec.kv_heads = static_cast<int>(in_range(
      "num_key_value_heads", optional_int(config, "num_key_value_heads", spec.heads, kWhat), kMaxLayers));
  if (spec.heads % spec.kv_heads != 0)
    malformed("'num_key_value_heads' (" + std::to_string(spec.kv_heads) +
              ") must divide 'num_attention_heads' (" + std::to_string(spec.heads) + ")");
  const bool head_dim_given = config.contains("head_dim") && !config["head_dim"].is_null();
  if (!head_dim_given && spec.hidden_size % spec.heads != 0)
    malformed("'hidden_size' (" + std::to_string(spec.hidden_size) +
              ") must be a multiple of 'num_attention_heads' (" + std::to_string(spec.heads) +
              "), or 'head_dim' be given");
  spec.head_dim = static_cast<int>(
      in_range("head_dim", optional_int(config, "head_dim", spec.hidden_size / spec.heads, kWhat),
               kMaxExtent / spec.heads));
  spec.max_positions = in_range(
      "max_position_embeddings",
      optional_int(config, "max_position_embeddings", architecture.max_positions, kWhat), kMaxExtent);
  spec.norm_eps = optional_number(config, "rms_norm_eps", architecture.norm_eps, kWhat);
  if (!(spec.norm_eps >= 0.0 && spec.norm_eps < 1.0)) malformed("'rms_norm_eps' must be between 0 and 1");
  spec.activation = activation_of(config);
  spec.qkv_bias = switched_on(config, architecture.qkv_bias_key);
  spec.attention_output_bias = switched_on(config, architecture.attention_output_bias_key);
  spec.mlp_bias = switched_on(config, architecture.mlp_bias_key);
  spec.tied_head = optional_bool(config, "tie_word_embeddings", architecture.tied_head, kWhat);
  spec.rope = rope_spec_of(config, spec.head_dim, spec.max_positions, architecture.rope_theta);
  if (spec.rope.rotary_dim != spec.head_dim && !architecture.partial_rotary)
    throw Error(ExitCode::kUnsupported,
                "config.json: 'partial_rotary_factor' has no meaning in " + spec.architecture);
  spec.dtype = dtype_in(config).value_or(DType::kF32);  // torch's own default
  if (architecture.eos_id) spec.eos_ids = {*architecture.eos_id};
  spec.bos_id = architecture.bos_id;
  read_special_ids(config, kWhat, spec);
  return spec;
}

ModelSpec model_spec_of(const Checkpoint& checkpoint) {
  try {
    const Architecture& architecture = architecture_of(checkpoint.config());
    ModelSpec spec = model_spec_of(checkpoint.config());
    if (!dtype_in(checkpoint.config())) spec.dtype = stored_dtype(checkpoint, architecture);
    if (spec.tied_head && differs_from_embedding(checkpoint, architecture)) spec.tied_head = false;
    ShapeCheck(checkpoint, architecture, spec).all();
    const std::string generation = checkpoint.folder() + "/generation_config.json";
    if (exists(generation)) read_special_ids(read_json_file(generation), generation, spec);
    return spec;
  } catch (const Error& error) {
    throw error.path().empty() ? error.within(escaped(checkpoint.folder()), checkpoint.folder()) : error;
  }
}

}  // namespace qtool
