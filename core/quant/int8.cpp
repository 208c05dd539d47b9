#include "core/quant/int8.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/convert.h"
#include "core/float16.h"
#include "core/quant/reciprocal.h"

namespace qtool {

float quantize_int8_row(std::span<const float> values, std::int8_t* codes) {
  float absmax = -0.0f;
  for (const float value : values) {
    const float magnitude = std::fabs(round_to_f16(value));
    if (magnitude >= absmax) absmax = magnitude;  // false for NaN
  }
  const float scale = 127.0f * approximate_reciprocal(absmax);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scaled = round_to_f16(values[i]) * scale;
    codes[i] = std::isnan(scaled) ? std::int8_t{0} : static_cast<std::int8_t>(std::nearbyint(scaled));
  }
  return absmax;
}

void dequantize_int8_row(std::span<const std::int8_t> codes, float absmax, DType dtype, std::byte* out) {
  constexpr float kOver127 = 7.874015718698502e-3f;
  constexpr std::size_t kAtOnce = 1024;
  float values[kAtOnce];
  while (!codes.empty()) {
    const std::size_t count = std::min(codes.size(), kAtOnce);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(codes[i]) * absmax * kOver127;
    from_float32(values, static_cast<std::int64_t>(count), dtype, out);
    codes = codes.subspan(count);
    out += count * static_cast<std::size_t>(size_of(dtype));
  }
}

Tensor dequantize_int8(const Tensor& codes, const Tensor& row_absmax, DType dtype) {
  Tensor out(dtype, codes.shape());
  const auto columns = static_cast<std::size_t>(codes.shape()[1]);
  std::byte* to = out.data();
  auto left = codes.as<std::int8_t>();
  for (const float absmax : row_absmax.as<float>()) {
    dequantize_int8_row(left.first(columns), absmax, dtype, to);
    left = left.subspan(columns);
    to += columns * static_cast<std::size_t>(size_of(dtype));
  }
  return out;
}

}  // namespace qtool
