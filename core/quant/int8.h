// LLM.int8() weights, the plain way (Dettmers et al., "LLM.int8()", 2022): one absmax a row, 8-bit codes.
//
// The arithmetic is that of bitsandbytes on CUDA: values are rounded to float16 first, whatever their type;
// absmax is the largest magnitude of these, ignoring NaN (-0 for a row of nothing else); a code is value *
// scale, scale = 127 times the GPU's approximate reciprocal of absmax, rounded to the nearest integer with
// ties to even. NaN becomes 0, so rows of zeros and rows with infinities have only zeros.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace qtool {

// One row: codes [n]; returns its absmax.
float quantize_int8_row(std::span<const float> values, std::int8_t* codes);

// code * absmax * (1/127), two roundings in float32 and one to `dtype`, as bitsandbytes'
// int8_vectorwise_dequant. A row, or any part of one.
//   codes [n], out [n] of `dtype`
void dequantize_int8_row(std::span<const std::int8_t> codes, float absmax, DType dtype, std::byte* out);

// All rows: codes [rows, in], row_absmax [rows].
Tensor dequantize_int8(const Tensor& codes, const Tensor& row_absmax, DType dtype);

}  // namespace qtool
