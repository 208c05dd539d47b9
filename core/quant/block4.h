// 4-bit block quantization, the plain way: the truth every kernel is compared with.
//
// A block is `block_size` consecutive values of the flattened matrix. It is stored as its largest magnitude,
// absmax, and a 4-bit code per value, two codes to a byte:
//
//      byte i  =  [ code of value 2i | code of value 2i + 1 ]       high nibble first
//
// The arithmetic is that of bitsandbytes' CUDA kernels in every bit, down to NaN, infinities and denormals:
//
//      absmax  the largest |value|, denormals flushed to zero; NaN does not count, so a block of nothing else
//              has -FLT_MAX
//      scaled  value * approximate_reciprocal(absmax), one rounding, denormals flushed to zero, not clamped
//
// So in a block of zeros 0 * infinity = NaN gives code 0, which is -1 in NF4 (and decodes to -1 * 0).
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/quant/codebook.h"

namespace qtool {

// The largest magnitude as defined above.
float absmax_of(std::span<const float> values);

// One block: packed [ceil(n / 2)]; returns absmax. Where n is odd, the missing value's code is that of 0.
float quantize_block4(std::span<const float> values, const Codebook4& book, std::uint8_t* packed);

// `count` values from their codes, each the product with its block's absmax in float32 (denormals flushed),
// rounded once more to `dtype` (F32, F16 or BF16).
//   packed [ceil(count / 2)], absmax [ceil(count / block_size)], out [count] of `dtype`
void dequantize_blocks4(const std::uint8_t* packed, const float* absmax, const Codebook4& book,
                        int block_size, std::int64_t count, DType dtype, std::byte* out);

}  // namespace qtool
