// Double quantization: the absmax values of 4-bit blocks, themselves quantized to 8 bits.
//
//   offset = mean(absmax); the differences absmax - offset, in blocks of 256, scaled by their own absmax as
//   in block4.h, become codes of the dynamic map.
#pragma once

#include <cstdint>
#include <span>

namespace qtool {

// One block of up to 256 values to 8 bits: codes [n]; returns absmax.
float quantize_block8(std::span<const float> values, std::uint8_t* codes);

// codes [n], nested_absmax [ceil(n / 256)]; returns the offset.
float quantize_nested(std::span<const float> absmax, std::span<std::uint8_t> codes,
                      std::span<float> nested_absmax);

// The absmax values that codes stand for: map[code] * nested_absmax (denormals flushed), then + offset, two
// roundings as in bitsandbytes' dequantize_4bit. `map` [256] is the one filed with the weight.
//   absmax [n]
void dequantize_nested(std::span<const std::uint8_t> codes, std::span<const float> nested_absmax,
                       std::span<const float> map, float offset, float* absmax);

}  // namespace qtool
