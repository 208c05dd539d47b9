#include "cmd/random_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "core/convert.h"
#include "core/error.h"
#include "core/model/role_shape.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"

namespace qtool {
namespace {

struct NamedShape {
  const char* name;
  std::int64_t vocab, hidden, intermediate;
  int layers, heads, kv_heads;
  double rope_theta;
  DType dtype;
};
constexpr std::array<NamedShape, 5> kShapes{{
    {"llama-2-7b", 32000, 4096, 11008, 32, 32, 32, 1e4, DType::kF16},
    {"llama-2-13b", 32000, 5120, 13824, 40, 40, 40, 1e4, DType::kF16},
    {"llama-3.1-8b", 128256, 4096, 14336, 32, 32, 8, 5e5, DType::kBF16},
    {"llama-3.2-1b", 128256, 2048, 8192, 16, 32, 8, 5e5, DType::kBF16},
    {"tiny", 512, 256, 704, 2, 4, 4, 1e4, DType::kBF16},
}};

constexpr std::size_t kPatternBytes = std::size_t{1} << 22;

// Random bytes, repeated to fill `tensor`.
void fill_bytes(Tensor& tensor, std::span<const std::byte> pattern) {
  const auto bytes = static_cast<std::size_t>(tensor.bytes());
  for (std::size_t at = 0; at < bytes; at += pattern.size())
    std::memcpy(tensor.data() + at, pattern.data(), std::min(pattern.size(), bytes - at));
}

std::span<const std::byte> random_bytes() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> made(kPatternBytes);
    std::mt19937 generator(1);
    for (std::byte& byte : made) byte = static_cast<std::byte>(generator());
    return made;
  }();
  return bytes;
}

// Normal values around `mean` as elements of `dtype`, repeated to fill a
// tensor.
Tensor normal_values(DType dtype, Shape shape, float mean, float deviation) {
  constexpr std::int64_t kCount = kPatternBytes / 4;
  static const std::vector<float> standard = [] {
    std::vector<float> made(static_cast<std::size_t>(kCount));
    std::mt19937 generator(2);
    std::normal_distribution<float> normal;
    for (float& value : made) value = normal(generator);
    return made;
  }();
  std::vector<float> values(standard);
  for (float& value : values) value = mean + deviation * value;
  std::vector<std::byte> pattern(static_cast<std::size_t>(kCount * size_of(dtype)));
  from_float32(values.data(), kCount, dtype, pattern.data());
  Tensor tensor(dtype, std::move(shape));
  fill_bytes(tensor, pattern);
  return tensor;
}

class RandomWeights final : public WeightSource {
 public:
  RandomWeights(const ModelSpec& spec, const QuantSpec& quant) : spec_(spec), quant_(quant) {}

  Weight linear(Role role, int, int) override {
    const bool kept = role == Role::kHead || role == Role::kRouter;
    return random_weight(role_shape(spec_, role), spec_.dtype, kept ? QuantSpec{} : quant_);
  }
  std::optional<Tensor> bias(Role role, int, int) override {
    return normal_values(spec_.dtype, bias_shape(spec_, role), 0.0f, 0.05f);
  }
  Tensor dense(Role role, int) override {
    const bool norm = class_of(role) == "norm";
    const float mean = norm && !spec_.norm_plus_one ? 1.0f : 0.0f;
    return normal_values(spec_.dtype, role_shape(spec_, role), mean, norm ? 0.05f : 1.0f);
  }

 private:
  ModelSpec spec_;
  QuantSpec quant_;
};

}  // namespace

Weight random_weight(const Shape& shape, DType dtype, const QuantSpec& quant) {
  const std::int64_t count = count_of(shape);
  const float deviation = 0.5f / std::sqrt(static_cast<float>(shape[1]));
  if (quant.method == QuantMethod::kNone) return DenseWeight{normal_values(dtype, shape, 0.0f, deviation)};
  if (quant.method == QuantMethod::kInt8) {
    Int8Weight weight;
    weight.codes = Tensor(DType::kI8, shape);
    fill_bytes(weight.codes, random_bytes());
    weight.row_absmax = normal_values(DType::kF32, {shape[0]}, deviation, 0.1f * deviation);
    weight.threshold = quant.int8_threshold;
    return weight;
  }
  Block4Weight weight;
  weight.shape = shape;
  weight.code = quant.code;
  weight.block_size = quant.block_size;
  weight.source_dtype = dtype;
  const std::int64_t blocks = (count + quant.block_size - 1) / quant.block_size;
  weight.packed = Tensor(DType::kU8, {(count + 1) / 2});
  fill_bytes(weight.packed, random_bytes());
  weight.quant_map = Tensor(DType::kF32, {16});
  std::copy_n(codebook(quant.code).values, 16, weight.quant_map.as<float>().begin());
  if (quant.nested) {
    weight.absmax = Tensor(DType::kU8, {blocks});
    fill_bytes(weight.absmax, random_bytes());
    weight.nested_absmax =
        normal_values(DType::kF32, {(blocks + kNestedBlockSize - 1) / kNestedBlockSize}, deviation, 0.0f);
    weight.nested_quant_map = Tensor(DType::kF32, {256});
    std::copy_n(kDynamicMap.begin(), 256, weight.nested_quant_map.as<float>().begin());
    weight.nested_offset = 2.0f * deviation;
  } else {
    weight.absmax = normal_values(DType::kF32, {blocks}, 2.0f * deviation, 0.2f * deviation);
  }
  return weight;
}

ModelSpec shape_named(const std::string& name) {
  std::string known;
  for (const NamedShape& shape : kShapes) {
    if (name != shape.name) {
      known += (known.empty() ? "" : ", ") + std::string(shape.name);
      continue;
    }
    ModelSpec spec;
    spec.architecture = "LlamaForCausalLM";
    spec.model_type = "llama";
    spec.vocab_size = shape.vocab;
    spec.hidden_size = shape.hidden;
    spec.intermediate_size = shape.intermediate;
    spec.layers = shape.layers;
    spec.heads = shape.heads;
    spec.kv_heads = shape.kv_heads;
    spec.head_dim = static_cast<int>(shape.hidden / shape.heads);
    spec.max_positions = 131072;
    spec.norm_eps = 1e-5;
    spec.rope.theta = shape.rope_theta;
    spec.rope.rotary_dim = spec.head_dim;
    spec.dtype = shape.dtype;
    return spec;
  }
  throw Error(ExitCode::kUsage, "--shape '" + escaped(name) + "' is not known; known are " + known);
}

std::unique_ptr<WeightSource> random_weights(const ModelSpec& spec, const QuantSpec& quant) {
  return std::make_unique<RandomWeights>(spec, quant);
}

}  // namespace qtool
