// Made-up weights and exact products for the tests of the CPU backend.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/convert.h"
#include "core/cpu/cpu_kernels.h"
#include "core/cpu/linear.h"
#include "core/float16.h"
#include "core/quant/quantizer.h"
#include "core/quant/reference_quantizer.h"

namespace qtool::test {

// Reproducible values, roughly normal: sums of four uniform ones.
class Values {
 public:
  explicit Values(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  float next() {
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) sum += uniform() - 0.5f;
    return sum;
  }
  float uniform() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(state_ >> 40) * 0x1p-24f;
  }
  std::vector<float> many(std::int64_t count, float scale = 1.0f) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = scale * next();
    return values;
  }

 private:
  std::uint64_t state_;
};

inline Tensor tensor_of(const std::vector<float>& values, DType dtype, Shape shape) {
  Tensor tensor(dtype, std::move(shape));
  from_float32(values.data(), tensor.count(), dtype, tensor.data());
  return tensor;
}

inline float rounded(float value, DType dtype) {
  if (dtype == DType::kBF16) return round_to_bf16(value);
  if (dtype == DType::kF16) return round_to_f16(value);
  return value;
}

inline Weight random_weight(const Shape& shape, const QuantSpec& spec, std::uint64_t seed,
                            DType dtype = DType::kBF16) {
  const Tensor values = tensor_of(Values(seed).many(count_of(shape), 0.05f), dtype, shape);
  return quantize(ReferenceQuantizer(), values.view(), spec);
}

inline cpu::CpuLinear layer_of(Weight weight, std::optional<Tensor> bias, DType compute) {
  cpu::CpuLinear layer;
  const Shape shape = shape_of(weight);
  layer.out = shape[0];
  layer.in = shape[1];
  layer.weight = std::move(weight);
  layer.bias = std::move(bias);
  layer.compute = compute;
  return layer;
}

// A sum in double precision, and how far a float32 sum of the same terms may lie from it.
struct Exact {
  double value;
  double tolerance;
};

// Products of `tokens` rounded inputs with the weight dequantized to `weights`, plus bias: [tokens, out].
inline std::vector<Exact> exact_products(const cpu::CpuLinear& layer, const std::vector<float>& x,
                                         std::int64_t tokens, DType weights) {
  const Tensor weight = dequantize(layer.weight, weights);
  std::vector<float> w(static_cast<std::size_t>(weight.count()));
  to_float32(weight.data(), weight.dtype(), weight.count(), w.data());
  std::vector<float> bias(static_cast<std::size_t>(layer.out));
  if (layer.bias) to_float32(layer.bias->data(), layer.bias->dtype(), layer.out, bias.data());
  std::vector<float> inputs = x;
  for (float& value : inputs) value = rounded(value, layer.compute);

  std::vector<Exact> results;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t r = 0; r < layer.out; ++r) {
      double sum = rounded(bias[static_cast<std::size_t>(r)], layer.compute);
      double magnitude = std::fabs(sum);
      for (std::int64_t k = 0; k < layer.in; ++k) {
        const double product = double{w[static_cast<std::size_t>(r * layer.in + k)]} *
                               double{inputs[static_cast<std::size_t>(t * layer.in + k)]};
        sum += product;
        magnitude += std::fabs(product);
      }
      results.push_back({sum, magnitude * 32 * 0x1p-24});
    }
  }
  return results;
}

// Whether `value` is a rounding, to `dtype`, of something within the tolerance.
inline bool agrees(float value, const Exact& exact, DType dtype) {
  const float low = rounded(static_cast<float>(exact.value - exact.tolerance), dtype);
  const float high = rounded(static_cast<float>(exact.value + exact.tolerance), dtype);
  return low <= value && value <= high;
}

}  // namespace qtool::test
