// What the AVX-512 kernels for 4-bit weights share. Unnamed on purpose: each file compiled for AVX-512 keeps
// its own copy.
#pragma once

#include "core/cpu/immintrin.h"
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

inline constexpr int kScales = 16;  // decoded at a time: their loads hide behind 16 blocks' products
// Written in whole registers: only those can be read back at once.
inline constexpr int kScalesBuffer = 2 * kScales;

// The scales of blocks [first, first + count), count <= kScales. NaN becomes the plain NaN, which survives
// rounding.
// `out` has kScalesBuffer floats.
[[maybe_unused, gnu::always_inline]] inline void scales_of(const Block4Rows& weight, std::int64_t first,
                                                           int count, float* out) {
  const __m512 plain_nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000));
  for (int done = 0; done < count;) {
    const std::int64_t block = first + done;
    int step = count - done;
    __mmask16 mask = static_cast<__mmask16>((1u << step) - 1u);
    __m512 scales;
    if (weight.absmax) {
      scales = _mm512_maskz_loadu_ps(mask, weight.absmax + block);
    } else {
      const int shared = 256 - static_cast<int>(block % 256);  // blocks left that share a nested absmax
      step = step < shared ? step : shared;
      mask = static_cast<__mmask16>((1u << step) - 1u);
      const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, weight.absmax_codes + block));
      const __m512 values = _mm512_i32gather_ps(codes, weight.nested_map, 4);
      const __m512 nested = _mm512_mul_ps(values, _mm512_set1_ps(weight.nested_absmax[block / 256]));
      scales = _mm512_add_ps(nested, _mm512_set1_ps(weight.nested_offset));
    }
    const __mmask16 nan = _mm512_cmp_ps_mask(scales, scales, _CMP_UNORD_Q);
    _mm512_storeu_ps(out + done, _mm512_mask_mov_ps(scales, nan, plain_nan));
    done += step;
  }
}

}  // namespace

}  // namespace qtool::cpu
