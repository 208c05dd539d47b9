// How far quantized values lie from what they stand for.
#pragma once

#include <cstdint>
#include <span>

#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool {

// Sums over values x and what they became, q; they add up over the chunks of a tensor.
struct SquareSums {
  double error = 0.0;  // sum (x - q)^2
  double value = 0.0;  // sum x^2

  SquareSums& operator+=(const SquareSums& other) {
    error += other.error;
    value += other.value;
    return *this;
  }
  // sqrt(error / value): the noise of the quantized values as a share of their size. Infinite or NaN where
  // values are.
  double relative_rmse() const;
};

// `exact` F32, F16 or BF16 and `quantized` F32, of equal count.
SquareSums square_sums(const TensorView& exact, std::span<const float> quantized);

// Values that are enough to judge a chunk by: a sixteenth of it, so that measuring costs little beside
// quantizing.
inline constexpr std::int64_t kSampledElements = std::int64_t{1} << 16;

// Of the first kSampledElements (or whole rows of about as many) among `values`, just quantized to these
// codes.
//   values [n]; packed [ceil(n / 2)]; absmax [ceil(n / block_size)]
SquareSums sample_block4(const TensorView& values, const QuantSpec& spec,
                         std::span<const std::uint8_t> packed, std::span<const float> absmax);
//   values [rows * in]; codes [rows * in]; row_absmax [rows]
SquareSums sample_int8(const TensorView& values, std::int64_t in, std::span<const std::int8_t> codes,
                       std::span<const float> row_absmax);

}  // namespace qtool
