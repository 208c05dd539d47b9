#include "core/quant/block4.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/flush.h"
#include "core/quant/reciprocal.h"

namespace qtool {

float absmax_of(std::span<const float> values) {
  // Magnitudes compare like the integers that their bits are, and unlike floats in an order the compiler may
  // choose.
  constexpr std::int32_t kInfinity = 0x7f800000;
  std::int32_t largest = -1;
  for (const float value : values) {
    const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(value) & 0x7fffffffu);
    largest = std::max(largest, magnitude > kInfinity ? -1 : magnitude);  // beyond infinity there is only NaN
  }
  if (largest < 0) return -std::numeric_limits<float>::max();
  return flushed(std::bit_cast<float>(largest));
}

float quantize_block4(std::span<const float> values, const Codebook4& book, std::uint8_t* packed) {
  const float absmax = absmax_of(values);
  const float reciprocal = approximate_reciprocal(absmax);
  const auto code = [&](std::size_t i) {
    const float value = i < values.size() ? values[i] : 0.0f;
    return code_of(book, flushed_product(value, reciprocal));
  };
  for (std::size_t i = 0; i < values.size(); i += 2)
    packed[i / 2] = static_cast<std::uint8_t>(code(i) << 4 | code(i + 1));
  return absmax;
}

namespace {

// A block has only 16 different values: they are computed once, then looked up.
template <typename T>
void look_up(const std::uint8_t* packed, std::int64_t count, const T* table, T* out) {
  for (std::int64_t i = 0; i + 1 < count; i += 2) {
    const std::uint8_t byte = packed[i / 2];
    out[i] = table[byte >> 4];
    out[i + 1] = table[byte & 15];
  }
  if (count % 2 != 0) out[count - 1] = table[packed[count / 2] >> 4];
}

template <typename T>
void dequantize_as(const std::uint8_t* packed, const float* absmax, const Codebook4& book, int block_size,
                   std::int64_t count, DType dtype, T* out) {
  float values[16];
  T table[16];
  for (std::int64_t first = 0; first < count; first += block_size, ++absmax) {
    for (int code = 0; code < 16; ++code) values[code] = flushed_product(decoded(book, code), *absmax);
    from_float32(values, 16, dtype, reinterpret_cast<std::byte*>(table));
    look_up(packed + first / 2, std::min<std::int64_t>(block_size, count - first), table, out + first);
  }
}

}  // namespace

void dequantize_blocks4(const std::uint8_t* packed, const float* absmax, const Codebook4& book,
                        int block_size, std::int64_t count, DType dtype, std::byte* out) {
  switch (dtype) {
    case DType::kF32:
      return dequantize_as(packed, absmax, book, block_size, count, dtype, reinterpret_cast<float*>(out));
    case DType::kF16:
    case DType::kBF16:
      return dequantize_as(packed, absmax, book, block_size, count, dtype,
                           reinterpret_cast<std::uint16_t*>(out));
    default:
      throw Error(ExitCode::kUnsupported, "cannot dequantize to " + std::string(info(dtype).name) +
                                              "; the types are F32, F16 and BF16");
  }
}

}  // namespace qtool
