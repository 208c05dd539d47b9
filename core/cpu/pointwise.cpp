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

// Sum of f(x[i]) in double: its order cannot matter to a float32 result. Eight partial sums keep the pipeline
// busy.
template <typename Function>
double sum_of(const float* x, std::int64_t count, const Function& f) {
  std::array<double, 8> partial{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int lane = 0; lane < 8; ++lane) partial[static_cast<std::size_t>(lane)] += f(double{x[i + lane]});
  for (; i < count; ++i) partial[0] += f(double{x[i]});
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

float relu2(float x) { return relu(x) * relu(x); }

float quick_gelu(float x) { return x / (1.0f + std::exp(-1.702f * x)); }

using ActivationFunction = float (*)(float);

template <ActivationFunction activate>
void apply(float* gate, const float* up, std::int64_t count, int threads) {
  if (!up) {
#pragma omp parallel for num_threads(threads) if (count >= kSerialBelow)
    for (std::int64_t i = 0; i < count; ++i) gate[i] = activate(gate[i]);
    return;
  }
#pragma omp parallel for num_threads(threads) if (count >= kSerialBelow)
  for (std::int64_t i = 0; i < count; ++i) gate[i] = activate(gate[i]) * up[i];
}

// (x - mean) * factor
struct Standard {
  float mean;
  float factor;
};

Standard standard_of(const float* x, std::int64_t count, const Norm& norm) {
  const auto n = static_cast<double>(count);
  const double mean = norm.kind == NormKind::kLayer ? sum_of(x, count, [](double v) { return v; }) / n : 0.0;
  const double squares = sum_of(x, count, [mean](double v) { return (v - mean) * (v - mean); });
  return {static_cast<float>(mean), 1.0f / std::sqrt(static_cast<float>(squares / n) + norm.eps)};
}

// Columns of a table that are widened at a time: it is small, and stays in the cache in its stored type.
constexpr std::int64_t kPiece = 256;
using Piece = std::array<float, kPiece>;

void widen(const Tensor& table, std::int64_t first, std::int64_t count, Piece& piece) {
  to_float32(table.data() + first * size_of(table.dtype()), table.dtype(), count, piece.data());
}

// One piece of a row, `count` columns; its tables begin at column `first`.
void norm_piece(const float* x, const Norm& norm, std::int64_t first, std::int64_t count, float* out) {
  const Standard standard = standard_of(x, count, norm);
  Piece weight, bias;
  weight.fill(1.0f);
  for (std::int64_t done = 0; done < count; done += kPiece) {
    const std::int64_t columns = std::min(kPiece, count - done);
    const auto n = static_cast<std::size_t>(columns);
    if (norm.weight) widen(*norm.weight, first + done, columns, weight);
    if (norm.weight && norm.weight_offset != 0.0f)
      for (std::size_t i = 0; i < n; ++i) weight[i] += norm.weight_offset;
    const float* from = x + done;
    float* to = out + done;
    for (std::size_t i = 0; i < n; ++i) to[i] = weight[i] * ((from[i] - standard.mean) * standard.factor);
    if (!norm.bias) continue;
    widen(*norm.bias, first + done, columns, bias);
    for (std::size_t i = 0; i < n; ++i) to[i] += bias[i];
  }
}

}  // namespace

void norm(const float* x, const Norm& norm, int groups, std::int64_t rows, std::int64_t cols, int threads,
          float* out) {
  const std::int64_t count = cols / groups;
  const Tensor* table = norm.weight ? norm.weight : norm.bias;
  const bool each_its_own = table && table->count() == cols;
#pragma omp parallel for num_threads(threads) if (rows > 1 && rows * cols >= kSerialBelow)
  for (std::int64_t r = 0; r < rows; ++r)
    for (int group = 0; group < groups; ++group) {
      const std::int64_t column = group * count;
      norm_piece(x + r * cols + column, norm, each_its_own ? column : 0, count, out + r * cols + column);
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
    case Activation::kRelu2:
      return apply<relu2>(gate, up, count, threads);
    case Activation::kQuickGelu:
      return apply<quick_gelu>(gate, up, count, threads);
  }
}

void softcap(float* x, float cap, std::int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) if (count >= kSerialBelow)
  for (std::int64_t i = 0; i < count; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void split(const float* fused, int groups, std::int64_t rows, std::span<const SplitPart> parts) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (int group = 0; group < groups; ++group)
      for (const SplitPart& part : parts) {
        const std::int64_t share = part.cols / groups;
        std::copy_n(fused, share, part.values + r * part.cols + group * share);
        fused += share;
      }
}

}  // namespace qtool::cpu
