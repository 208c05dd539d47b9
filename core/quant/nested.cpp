#include "core/quant/nested.h"

#include <algorithm>
#include <cstddef>

#include "core/quant/block4.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/flush.h"
#include "core/quant/reciprocal.h"
#include "core/quant/spec.h"
#include "core/quant/torch_mean.h"

namespace qtool {

float quantize_block8(std::span<const float> values, std::uint8_t* codes) {
  const float absmax = absmax_of(values);
  const float reciprocal = approximate_reciprocal(absmax);
  float scaled[kNestedBlockSize];
  for (std::size_t i = 0; i < values.size(); ++i) scaled[i] = flushed_product(values[i], reciprocal);
  dynamic_codes_of({scaled, values.size()}, codes);
  return absmax;
}

float quantize_nested(std::span<const float> absmax, std::span<std::uint8_t> codes,
                      std::span<float> nested_absmax) {
  const float offset = torch_cuda_mean(absmax);
  float differences[kNestedBlockSize];
  for (std::size_t first = 0; first < absmax.size(); first += kNestedBlockSize) {
    const std::size_t count = std::min<std::size_t>(kNestedBlockSize, absmax.size() - first);
    for (std::size_t i = 0; i < count; ++i) differences[i] = absmax[first + i] - offset;
    nested_absmax[first / kNestedBlockSize] = quantize_block8({differences, count}, codes.data() + first);
  }
  return offset;
}

void dequantize_nested(std::span<const std::uint8_t> codes, std::span<const float> nested_absmax,
                       std::span<const float> map, float offset, float* absmax) {
  for (std::size_t i = 0; i < codes.size(); ++i)
    absmax[i] = flushed_product(map[codes[i]], nested_absmax[i / kNestedBlockSize]) + offset;
}

}  // namespace qtool
