// Rounding of 16 floats to a narrower type, kept as floats. Unnamed: each file for AVX-512 keeps its own
// copy.
#pragma once

#include "core/cpu/immintrin.h"
#include "core/cpu/kernel_functions.h"

namespace qtool::cpu {

namespace {

// To nearest even. A NaN must be the plain one, whose lower bits are 0: others could carry into the sign.
template <DType kType>
__m512 rounded(__m512 values) {
  if constexpr (kType == DType::kBF16) {
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
    return _mm512_castsi512_ps(_mm512_and_si512(sum, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  } else if constexpr (kType == DType::kF16) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  } else {
    return values;
  }
}

}  // namespace

}  // namespace qtool::cpu
