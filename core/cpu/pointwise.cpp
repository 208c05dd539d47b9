#include "core/cpu/pointwise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/convert.h"

namespace qtool::cpu {

namespace {

constexpr std::int64_t kSerialBelow =
    4096;  // elements that one thread does in the time another takes to wake up

// Sum of squares in double: its order cannot matter to a float32 result. Eight partial sums keep the pipeline
// busy.
double sum_of_squares(const float* x, std::int64_t count) {
  std::array<double, 8> partial{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int lane = 0; lane < 8; ++lane) {
      const double value = x[i + lane];
      partial[static_cast<std::size_t>(lane)] += value * value;
    }
  for (; i < count; ++i) partial[0] += double{x[i]} * double{x[i]};
  double sum = 0.0;
  for (const double value : partial) sum += value;
  return sum;
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

float gelu_erf(float x) { return 0.5f * x * (1.0f + std::erf(x * (std::numbers::sqrt2_v<float> / 2.0f))); }

float gelu_tanh(float x) {
  constexpr float kScale =
      2.0f * std::numbers::inv_sqrtpi_v<float> / std::numbers::sqrt2_v<float>;  // sqrt(2 / pi)
  return 0.5f * x * (1.0f + std::tanh(kScale * (x + 0.044715f * (x * x * x))));
}

float relu(float x) { return x > 0.0f ? x : 0.0f; }

using ActivationFunction = float (*)(float);

template <ActivationFunction activate>
void apply(float* gate, const float* up, std::int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) if (count >= kSerialBelow)
  for (std::int64_t i = 0; i < count; ++i) gate[i] = activate(gate[i]) * up[i];
}

}  // namespace

void rms_norm(const float* x, const Tensor& weight, float eps, std::int64_t rows, std::int64_t cols,
              int threads, float* out) {
#pragma omp parallel for num_threads(threads) if (rows > 1 && rows * cols >= kSerialBelow)
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * cols;
    float* to = out + r * cols;
    const auto mean = static_cast<float>(sum_of_squares(from, cols) / static_cast<double>(cols));
    const float factor = 1.0f / std::sqrt(mean + eps);
    // The weight is widened piece by piece: it is small, and stays in the cache in its stored type.
    std::array<float, 256> piece;
    for (std::int64_t first = 0; first < cols; first += 256) {
      const std::int64_t count = std::min<std::int64_t>(256, cols - first);
      to_float32(weight.data() + first * size_of(weight.dtype()), weight.dtype(), count, piece.data());
      for (std::int64_t i = 0; i < count; ++i)
        to[first + i] = piece[static_cast<std::size_t>(i)] * (from[first + i] * factor);
    }
  }
}

void gate(float* gate, const float* up, Activation activation, std::int64_t count, int threads) {
  switch (activation) {
    case Activation::kSilu:
      return apply<silu>(gate, up, count, threads);
    case Activation::kGeluErf:
      return apply<gelu_erf>(gate, up, count, threads);
    case Activation::kGeluTanh:
      return apply<gelu_tanh>(gate, up, count, threads);
    case Activation::kRelu:
      return apply<relu>(gate, up, count, threads);
  }
}

}  // namespace qtool::cpu
