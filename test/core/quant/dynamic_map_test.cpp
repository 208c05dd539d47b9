#include "core/quant/dynamic_map.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/sha256.h"

namespace {

using qtool::kDynamicMap;

std::uint8_t code_of(float scaled) {
  std::uint8_t code = 0;
  qtool::dynamic_codes_of({&scaled, 1}, &code);
  return code;
}

// The bisection of bitsandbytes' CUDA kernel (dQuantize), step by step.
std::uint8_t code_by_bisection(float p) {
  int pivot = 127, upper_pivot = 255, lower_pivot = 0;
  float lower = -1.0f, upper = 1.0f, value = kDynamicMap[127];
  for (int step = 64; step > 0; step >>= 1) {
    if (p > value) {
      lower_pivot = pivot;
      lower = value;
      pivot += step;
    } else {
      upper_pivot = pivot;
      upper = value;
      pivot -= step;
    }
    value = kDynamicMap[static_cast<std::size_t>(pivot)];
  }
  if (upper_pivot == 255) upper = kDynamicMap[255];
  if (lower_pivot == 0) lower = kDynamicMap[0];
  if (p > value) return static_cast<std::uint8_t>(p > (upper + value) * 0.5f ? upper_pivot : pivot);
  return static_cast<std::uint8_t>(p < (lower + value) * 0.5f ? lower_pivot : pivot);
}

TEST_CASE("the dynamic map has the bits that torch computes") {
  qtool::Sha256 sha;
  sha.update(std::as_bytes(std::span(kDynamicMap)));
  CHECK(sha.hex_digest() == "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
  CHECK(kDynamicMap[127] == 0.0f);
  CHECK(kDynamicMap[255] == 1.0f);
}

TEST_CASE("dynamic codes are those of the CUDA kernel's bisection, ties included") {
  for (std::size_t k = 0; k < 256; ++k) CHECK(code_of(kDynamicMap[k]) == k);
  std::vector<float> probes{0.0f, -0.0f, 1.0f, -1.0f, 1.0000001f, -1.0000001f, 1e-30f, -1e-30f, 0x1p-149f};
  for (std::size_t k = 0; k < 255; ++k) {
    const float middle = (kDynamicMap[k] + kDynamicMap[k + 1]) * 0.5f;
    CHECK(code_of(middle) % 2 == 0);
    for (const float probe : {std::nextafter(middle, -2.0f), middle, std::nextafter(middle, 2.0f)})
      probes.push_back(probe);
  }
  for (std::uint32_t i = 0; i < 200000; ++i) {
    const std::uint32_t bits = i * 2654435761u;
    probes.push_back(std::bit_cast<float>(bits % 0x3f800002u | (i % 2 == 0 ? 0x80000000u : 0u)));  // |p| <= 1
  }
  int wrong = 0;
  for (const float probe : probes) wrong += code_of(probe) != code_by_bisection(probe);
  CHECK(wrong == 0);
  CHECK(code_of(std::numeric_limits<float>::quiet_NaN()) == 0);
  CHECK(code_of(std::bit_cast<float>(0x7f800001u)) == 0);
}

}  // namespace
