#include "core/quant/reciprocal.h"

#include <bit>

namespace qtool {

namespace {

// x*x / 2^17 from its partial products in columns 17 and up. Row i of the folded multiplication holds bit i
// of x times the bits above it, in columns i+j+1, and the bit's own square in column 2i.
std::uint32_t truncated_square(std::uint32_t x) {
  std::uint32_t sum = 0;  // below 2^32
  for (int i = 1; i < 16; ++i) {
    if ((x >> i & 1u) == 0) continue;
    const int first = i < 8 ? 16 - i : i + 1;  // lowest j > i with i + j + 1 >= 17
    sum += (x >> first << first) << (i + 1);
    if (i >= 9) sum += 1u << (2 * i);
  }
  return sum >> 17;
}

}  // namespace

float approximate_reciprocal(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits & 0x80000000u;
  const auto exponent = static_cast<std::int32_t>(bits >> 23 & 0xffu);
  const std::uint32_t mantissa = bits & 0x7fffffu;
  if (exponent == 0) return std::bit_cast<float>(sign | 0x7f800000u);
  if (exponent == 0xff) return std::bit_cast<float>(mantissa == 0 ? sign : 0x7fffffffu);

  const ReciprocalSegment& segment = kReciprocalSegments[mantissa >> 16];
  const std::uint32_t x = mantissa & 0xffffu;
  const std::int64_t sum = std::int64_t{segment.c0} * 8192 - std::int64_t{segment.c1} * x +
                           std::int64_t{segment.c2} * truncated_square(x) + kReciprocalBias;
  // In units of 2^-24 the result has 24 bits, or is 2^24 for 1/1: added to an exponent field that is one too
  // small, its leading bit completes the exponent.
  const std::int32_t result = static_cast<std::int32_t>(sum >> 15) + (252 - exponent) * 0x800000;
  if (result < 0x00800000) return std::bit_cast<float>(sign);
  return std::bit_cast<float>(sign | static_cast<std::uint32_t>(result));
}

}  // namespace qtool
