#include "core/quant/dynamic_map.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <vector>

namespace qtool {

namespace {

// Point k of torch.linspace(0.1, 1, steps + 1) as its vectorized CPU kernel computes it: from the nearer end,
// by one fused multiply-add. The product of a float32 and a small integer is exact in double, so one rounding
// remains.
constexpr float linspace_point(int k, int steps) {
  constexpr float kStart = 0.1f;
  const float step = (1.0f - kStart) / static_cast<float>(steps);
  if (k < (steps + 1) / 2) return static_cast<float>(double{kStart} + double{step} * k);
  return static_cast<float>(1.0 - double{step} * (steps - k));
}

constexpr std::array<float, 256> make_dynamic_map() {
  constexpr float kDecades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  std::array<float, 256> map{};
  std::size_t size = 0;
  map[size++] = 0.0f;
  map[size++] = 1.0f;
  for (int decade = 0; decade < 7; ++decade) {
    const int steps = 1 << decade;
    for (int k = 0; k < steps; ++k) {
      const float middle = (linspace_point(k, steps) + linspace_point(k + 1, steps)) / 2.0f;
      map[size++] = kDecades[decade] * middle;
      map[size++] = -(kDecades[decade] * middle);
    }
  }
  std::sort(map.begin(), map.end());
  return map;
}

// The largest float below `value`, which is finite and not zero.
constexpr float next_below(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>(value > 0.0f ? bits - 1 : bits + 1);
}

constexpr std::array<float, 256> make_thresholds(const std::array<float, 256>& map) {
  std::array<float, 256> thresholds{};
  for (std::size_t k = 0; k + 1 < thresholds.size(); ++k) {
    const float middle = (map[k] + map[k + 1]) * 0.5f;
    // From an odd code a tie moves up to the even one: the middle itself must count as above the threshold.
    thresholds[k] = k % 2 == 0 ? middle : next_below(middle);
  }
  thresholds[255] = std::numeric_limits<float>::infinity();
  return thresholds;
}

}  // namespace

constinit const std::array<float, 256> kDynamicMap = make_dynamic_map();
constinit const std::array<float, 256> kDynamicThresholds = make_thresholds(make_dynamic_map());

namespace {

// Where the search begins, by the upper half of a float's bits: the code of the lowest value that begins so.
// Such a cell spans 1/128 of its magnitude at most, less than the distance of any two thresholds, so it holds
// no more than one.
std::vector<std::uint8_t> make_first_codes() {
  std::vector<std::uint8_t> codes(0x10000);
  for (std::uint32_t cell = 0; cell < codes.size(); ++cell) {
    const bool negative = cell >= 0x8000;
    const auto lowest = std::bit_cast<float>(cell << 16 | (negative ? 0xffffu : 0u));
    codes[cell] = static_cast<std::uint8_t>(
        std::lower_bound(kDynamicThresholds.begin(), kDynamicThresholds.end(), lowest) -
        kDynamicThresholds.begin());
  }
  return codes;
}

}  // namespace

void dynamic_codes_of(std::span<const float> scaled, std::uint8_t* codes) {
  static const std::vector<std::uint8_t> first_codes = make_first_codes();
  for (std::size_t i = 0; i < scaled.size(); ++i) {
    std::uint8_t code = first_codes[std::bit_cast<std::uint32_t>(scaled[i]) >> 16];
    code = static_cast<std::uint8_t>(code + (kDynamicThresholds[code] < scaled[i] ? 1 : 0));
    codes[i] = scaled[i] == scaled[i] ? code : std::uint8_t{0};
  }
}

}  // namespace qtool
