// Looking up 4-bit codes with AVX2. Unnamed on purpose: each file compiled for AVX2 keeps its own copy.
//
// AVX2 has no permutation of 16 floats, but looks up 16 bytes in each half of a register (vpshufb). So a
// block's 16 values are cut into four planes, one for each of their bytes; four look-ups give the bytes of 32
// values, and two rounds of interleaving put them together:
//
//   planes   p0 p1 p2 p3   bytes 0, 1, 2, 3 of value[code]
//   words    p0:p1  p2:p3
//   floats   p0:p1:p2:p3
//
// All types of operand take this path: the values are rounded before they are cut.
#pragma once

#include <immintrin.h>

#include "core/cpu/kernel_functions.h"

namespace qtool::cpu {

namespace {

// Results below the smallest normal number become zero while this lives, as in the GPU's multiplication.
class FlushToZero {
 public:
  FlushToZero() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8000u); }
  ~FlushToZero() { _mm_setcsr(saved_); }
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;

 private:
  unsigned saved_;
};

// To nearest even. A NaN must be the plain one, whose lower bits are 0: others could carry into the sign.
inline __m256 rounded(__m256 values, DType dtype) {
  if (dtype == DType::kBF16) {
    const __m256i bits = _mm256_castps_si256(values);
    const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even);
    return _mm256_castsi256_ps(_mm256_and_si256(sum, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  if (dtype == DType::kF16) return _mm256_cvtph_ps(_mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  return values;
}

// The scale of a block; NaN becomes the plain NaN.
inline float scale_of(const Block4Rows& weight, std::int64_t block) {
  float scale;
  if (weight.absmax) {
    scale = weight.absmax[block];
  } else {
    const float nested = weight.nested_map[weight.absmax_codes[block]] * weight.nested_absmax[block / 256];
    scale = nested + weight.nested_offset;
  }
  return scale == scale ? scale : __builtin_nanf("");
}

// A block's 16 values.
struct Values {
  __m256 low, high;  // of codes 0 to 7 and 8 to 15
};
inline Values values_of(const Block4Rows& weight, std::int64_t block) {
  const __m256 scale = _mm256_set1_ps(scale_of(weight, block));
  return {rounded(_mm256_mul_ps(_mm256_loadu_ps(weight.lut), scale), weight.compute),
          rounded(_mm256_mul_ps(_mm256_loadu_ps(weight.lut + 8), scale), weight.compute)};
}

struct Planes {
  __m256i byte[4];  // [16] bytes, in both halves
};
inline Planes planes_of(const Values& values) {
  // Within four values: their bytes 0, their bytes 1, ...
  const __m256i by_byte = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12,
                                           1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m256i low = _mm256_shuffle_epi8(_mm256_castps_si256(values.low), by_byte);    // codes 0-3 | 4-7
  const __m256i high = _mm256_shuffle_epi8(_mm256_castps_si256(values.high), by_byte);  // codes 8-11 | 12-15
  const __m256i even = _mm256_permute2x128_si256(low, high, 0x20);                      // codes 0-3 | 8-11
  const __m256i odd = _mm256_permute2x128_si256(low, high, 0x31);                       // codes 4-7 | 12-15
  const __m256i first = _mm256_unpacklo_epi32(even, odd);   // bytes 0 then 1 of codes 0-7 | of codes 8-15
  const __m256i second = _mm256_unpackhi_epi32(even, odd);  // bytes 2 then 3
  // Quadwords 0 2 0 2 hold the lower byte of all codes twice, quadwords 1 3 1 3 the upper.
  return {{_mm256_permute4x64_epi64(first, 0x88), _mm256_permute4x64_epi64(first, 0xdd),
           _mm256_permute4x64_epi64(second, 0x88), _mm256_permute4x64_epi64(second, 0xdd)}};
}

inline constexpr int kUnit = 64;  // weights looked up at once: 32 bytes of codes

// The values of 32 codes, one a byte: float j of register v is that of byte 4v + j, for j >= 4 of byte 12 +
// 4v + j.
struct Lookup {
  __m256 value[4];
};
inline Lookup look_up(const Planes& planes, __m256i codes) {
  const __m256i byte0 = _mm256_shuffle_epi8(planes.byte[0], codes);
  const __m256i byte1 = _mm256_shuffle_epi8(planes.byte[1], codes);
  const __m256i byte2 = _mm256_shuffle_epi8(planes.byte[2], codes);
  const __m256i byte3 = _mm256_shuffle_epi8(planes.byte[3], codes);
  const __m256i lower_a = _mm256_unpacklo_epi8(byte0, byte1);
  const __m256i lower_b = _mm256_unpackhi_epi8(byte0, byte1);
  const __m256i upper_a = _mm256_unpacklo_epi8(byte2, byte3);
  const __m256i upper_b = _mm256_unpackhi_epi8(byte2, byte3);
  return {{_mm256_castsi256_ps(_mm256_unpacklo_epi16(lower_a, upper_a)),
           _mm256_castsi256_ps(_mm256_unpackhi_epi16(lower_a, upper_a)),
           _mm256_castsi256_ps(_mm256_unpacklo_epi16(lower_b, upper_b)),
           _mm256_castsi256_ps(_mm256_unpackhi_epi16(lower_b, upper_b))}};
}

// 64 weights: those of high nibbles, elements 0, 2, ... 62, and of low nibbles, elements 1, 3, ... 63.
inline __m256i high_nibbles(__m256i codes) {
  return _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(15));
}
inline __m256i low_nibbles(__m256i codes) { return _mm256_and_si256(codes, _mm256_set1_epi8(15)); }

}  // namespace

}  // namespace qtool::cpu
