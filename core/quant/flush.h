// Flush-to-zero, as GPU code compiled with fast math treats denormal operands and results.
#pragma once

#include <bit>
#include <cstdint>

namespace qtool {

inline float flushed(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}

// mul.ftz.f32
inline float flushed_product(float a, float b) { return flushed(flushed(a) * flushed(b)); }

}  // namespace qtool
