// The GPU's approximate reciprocal, rcp.approx.ftz.f32, bit for bit.
//
// bitsandbytes' CUDA kernels are compiled with fast math, so "1 / absmax" is this instruction. It differs
// from the correctly rounded reciprocal by one unit in the last place for 13 % of all arguments, which
// changes codes; whoever wants the same bytes without a GPU needs the same unit.
//
// The unit is a table-driven quadratic interpolator (Oberman & Siu, "A high-performance area-efficient
// multifunction interpolator", ARITH 2005). The argument's 23 mantissa bits split into a segment number and
// an offset x:
//
//      22        16 15                    0
//     [  segment   |           x           ]        1 / 1.m  =  sum / 2^39,
//                                                   sum = c0 * 2^13 - c1 * x + c2 * square(x) + bias
//
// where square(x) is x*x / 2^17 without the partial products of its 17 low columns; the sum is cut off (not
// rounded) to 24 bits. Published are only the shape and the coefficients' widths (26, 16 and 10 bits).
// scripts/make_reciprocal_table found coefficients and bias from results measured on an H100, and they
// reproduce all 2^23 of them. All exponents behave alike.
#pragma once

#include <cstdint>

namespace qtool {

struct ReciprocalSegment {
  std::int32_t c0;  // units of 2^-26
  std::int32_t c1;  // units of 2^-39 per step of x
  std::int32_t c2;  // units of 2^-39 per step of square(x)
};
extern const ReciprocalSegment kReciprocalSegments[128];

inline constexpr int kReciprocalBias = 2023;  // units of 2^-39

// 1/value as the GPU computes it: zero and denormal arguments give an infinity of the same sign, results that
// would be denormal (|value| > 2^126) and infinite arguments give zero, NaN gives NaN.
float approximate_reciprocal(float value);

}  // namespace qtool
