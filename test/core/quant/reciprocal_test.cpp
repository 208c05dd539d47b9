#include "core/quant/reciprocal.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "core/sha256.h"

namespace {

using qtool::approximate_reciprocal;

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }
std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST_CASE("the reciprocal of every mantissa is the one measured on the GPU") {
  // The measurement is filed as 8 + the difference from the correctly rounded quotient, a byte per mantissa;
  // this is the SHA-256 of that file.
  std::vector<std::byte> deltas(1u << 23);
  int counts[3] = {};
  for (std::uint32_t mantissa = 0; mantissa < deltas.size(); ++mantissa) {
    const float value = from_bits(0x3f800000u | mantissa);
    const auto delta =
        static_cast<int>(bits_of(approximate_reciprocal(value))) - static_cast<int>(bits_of(1.0f / value));
    deltas[mantissa] = static_cast<std::byte>(8 + delta);
    if (delta >= -1 && delta <= 1) ++counts[delta + 1];
  }
  CHECK(counts[0] == 374723);
  CHECK(counts[1] == 7280086);
  CHECK(counts[2] == 733799);
  qtool::Sha256 sha;
  sha.update(deltas);
  CHECK(sha.hex_digest() == "43a1f483c1dec7a2eabad8a40d9380e080f9c63ac6c9895715ca7c3d840f26e7");
}

TEST_CASE("the reciprocal scales with the exponent and flushes at both ends") {
  for (std::uint32_t mantissa = 0; mantissa < 1u << 23; mantissa += 30011) {
    const float unit = approximate_reciprocal(from_bits(0x3f800000u | mantissa));
    for (int exponent = 1; exponent < 255; ++exponent) {
      const float value = from_bits(static_cast<std::uint32_t>(exponent) << 23 | mantissa);
      float expected = std::ldexp(unit, 127 - exponent);
      if (expected < std::numeric_limits<float>::min()) expected = 0.0f;
      REQUIRE(bits_of(approximate_reciprocal(value)) == bits_of(expected));
      REQUIRE(bits_of(approximate_reciprocal(-value)) == bits_of(-expected));
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(bits_of(approximate_reciprocal(0.0f)) == bits_of(infinity));
  CHECK(bits_of(approximate_reciprocal(-0.0f)) == bits_of(-infinity));
  CHECK(approximate_reciprocal(0x1p-127f) == infinity);
  CHECK(bits_of(approximate_reciprocal(infinity)) == 0u);
  CHECK(bits_of(approximate_reciprocal(-infinity)) == 0x80000000u);
  CHECK(approximate_reciprocal(0x1p126f) == 0x1p-126f);
  CHECK(approximate_reciprocal(0x1.000002p126f) == 0.0f);
  CHECK(std::isnan(approximate_reciprocal(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
