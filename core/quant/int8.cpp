#include "core/quant/int8.h"

#include <cmath>
#include <vector>

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

Tensor dequantize_int8(const Tensor& codes, const Tensor& row_absmax, DType dtype) {
  constexpr float kOver127 = 7.874015718698502e-3f;
  const std::int64_t rows = codes.shape()[0];
  const std::int64_t columns = codes.shape()[1];
  Tensor out(dtype, codes.shape());
  const auto code = codes.as<std::int8_t>();
  const auto absmax = row_absmax.as<float>();
  std::vector<float> row(static_cast<std::size_t>(columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      row[static_cast<std::size_t>(c)] = static_cast<float>(code[static_cast<std::size_t>(r * columns + c)]) *
                                         absmax[static_cast<std::size_t>(r)] * kOver127;
    from_float32(row.data(), columns, dtype, out.data() + r * columns * size_of(dtype));
  }
  return out;
}

}  // namespace qtool
