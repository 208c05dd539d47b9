// Decoding of 4-bit codes into floats in their natural order, for tiles that many tokens share.
#include "core/cpu/block4_avx512.h"
#include "core/cpu/round_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kUnit = 32;

__m512 table_of(const Block4Rows& weight, float scale) {
  const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(weight.lut), _mm512_set1_ps(scale));
  if (weight.compute == DType::kBF16) return rounded<DType::kBF16>(scaled);
  if (weight.compute == DType::kF16) return rounded<DType::kF16>(scaled);
  return scaled;
}

}  // namespace

void decode4_avx512(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out) {
  const FlushToZero flush;
  // High nibbles are even elements, low nibbles odd ones: interleave them.
  const __m512i lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i upper = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const std::int64_t end = first + count;
  std::int64_t i = first;
  while (i < end) {
    const std::int64_t block = i / weight.block_size;
    const std::int64_t block_end =
        (block + 1) * weight.block_size < end ? (block + 1) * weight.block_size : end;
    float scales[kScalesBuffer];
    scales_of(weight, block, 1, scales);
    const __m512 table = table_of(weight, scales[0]);
    alignas(64) float values[16];
    _mm512_store_ps(values, table);
    if (i % 2 == 1) {
      out[i - first] = values[weight.packed[i / 2] & 15];
      ++i;
    }
    for (; i + kUnit <= block_end; i += kUnit) {
      const auto* codes = reinterpret_cast<const __m128i*>(weight.packed + i / 2);
      const __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes));
      const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), table);
      const __m512 odd = _mm512_permutexvar_ps(pairs, table);
      _mm512_storeu_ps(out + (i - first), _mm512_permutex2var_ps(even, lower, odd));
      _mm512_storeu_ps(out + (i - first) + kUnit / 2, _mm512_permutex2var_ps(even, upper, odd));
    }
    for (; i < block_end; ++i) {
      const int pair = weight.packed[i / 2];
      out[i - first] = values[i % 2 == 0 ? pair >> 4 : pair & 15];
    }
  }
}

}  // namespace qtool::cpu
