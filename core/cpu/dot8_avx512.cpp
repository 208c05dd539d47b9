// Exact products of 8-bit codes for LLM.int8: widened to 16 bits, multiplied and added in pairs (vpmaddwd) to
// int32.
#include "core/cpu/immintrin.h"
#include "core/cpu/kernel_functions.h"

namespace qtool::cpu {

namespace {

constexpr int kUnit = 32;  // codes at a time

template <int kRows, int kTokens>
void dot_block(const std::int8_t* w, const std::int8_t* x, std::int64_t count, std::int32_t* sums,
               std::int64_t sums_stride) {
  __m512i partial[kRows][kTokens];
  for (auto& row : partial)
    for (__m512i& sum : row) sum = _mm512_setzero_si512();
  for (std::int64_t k = 0; k < count; k += kUnit) {
    const __mmask32 mask = count - k >= kUnit ? ~__mmask32{0} : (__mmask32{1} << (count - k)) - 1;
    __m512i tokens[kTokens];
    for (int t = 0; t < kTokens; ++t)
      tokens[t] = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, x + t * count + k));
    for (int r = 0; r < kRows; ++r) {
      _mm_prefetch(reinterpret_cast<const char*>(w + r * count + k + 4096), _MM_HINT_T0);
      const __m512i row = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, w + r * count + k));
      for (int t = 0; t < kTokens; ++t)
        partial[r][t] = _mm512_add_epi32(partial[r][t], _mm512_madd_epi16(row, tokens[t]));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int t = 0; t < kTokens; ++t) sums[t * sums_stride + r] = _mm512_reduce_add_epi32(partial[r][t]);
}

template <int kTokens>
void dot_rows(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t count,
              std::int32_t* sums, std::int64_t sums_stride) {
  std::int64_t r = 0;
  if constexpr (kTokens > 1)
    for (; r + 4 <= rows; r += 4) dot_block<4, kTokens>(w + r * count, x, count, sums + r, sums_stride);
  for (; r < rows; ++r) dot_block<1, kTokens>(w + r * count, x, count, sums + r, sums_stride);
}

}  // namespace

void dot8_avx512(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t tokens,
                 std::int64_t count, std::int32_t* sums, std::int64_t sums_stride) {
  std::int64_t t = 0;
  for (; t + 4 <= tokens; t += 4)
    dot_rows<4>(w, rows, x + t * count, count, sums + t * sums_stride, sums_stride);
  x += t * count;
  sums += t * sums_stride;
  if (tokens - t == 3) dot_rows<3>(w, rows, x, count, sums, sums_stride);
  if (tokens - t == 2) dot_rows<2>(w, rows, x, count, sums, sums_stride);
  if (tokens - t == 1) dot_rows<1>(w, rows, x, count, sums, sums_stride);
}

}  // namespace qtool::cpu
