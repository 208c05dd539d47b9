// Conversion between the floating-point element types, by round-to-nearest-even as torch does it.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace qtool {

// `count` values of float type `from` at `in` as float32. Exact for 16-bit sources; float64 is rounded.
void to_float32(const std::byte* in, DType from, std::int64_t count, float* out);

// `count` float32 values as float type `to` at `out`.
void from_float32(const float* in, std::int64_t count, DType to, std::byte* out);

// `count` values of float type `from` as float type `to`; a plain copy when they are the same.
// A 16-bit type becomes another 16-bit type through float32, as torch casts.
void convert(const std::byte* in, DType from, std::int64_t count, DType to, std::byte* out);

// A copy of `in` with element type `to` (both floating-point, or equal).
Tensor converted(const TensorView& in, DType to);

// out[c][r] = in[r][c] for elements of `element_bytes` (1, 2, 4 or 8); in [rows, columns] does not overlap
// out.
void transpose(const std::byte* in, std::int64_t rows, std::int64_t columns, std::int64_t element_bytes,
               std::byte* out);

// A transposed copy of a matrix of floating-point numbers.
Tensor transposed(const TensorView& matrix);

}  // namespace qtool
