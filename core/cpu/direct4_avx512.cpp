// The direct product in float32 lanes, for operands of any type.
//
// A block's 16 values fill one register; a code becomes its value by a permutation of dwords (vpermps), which
// takes the low four bits of its index alone, so a byte needs no masking:
//
//   16 bytes of codes -> 16 dwords ab   high nibbles  table[ab >> 4]  elements 0, 2, 4, ... 30
//                                       low nibbles   table[ab]       elements 1, 3, 5, ... 31
//
// The tokens are stored in that order.
#include "core/cpu/direct4_avx512.h"

#include "core/cpu/round_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kUnit = 32;

bool takes(const Block4Rows& weight) { return weight.in % weight.block_size == 0; }

void pack(const Block4Rows& weight, const float* x, float* out) {
  for (std::int64_t k = 0; k < weight.in; k += kUnit)
    for (int i = 0; i < kUnit; ++i) out[k + (i % 2) * (kUnit / 2) + i / 2] = x[k + i];
}

template <DType kType>
struct FloatFormat {
  static constexpr int kUnit = cpu::kUnit;
  using Input = float;
  static constexpr int kInputStride = 1;
  using Table = __m512;

  static Table table(__m512 lut, float scale) {
    return rounded<kType>(_mm512_mul_ps(lut, _mm512_set1_ps(scale)));
  }

  template <int kTokens, int kSums>
  static void add(const std::uint8_t* codes, Table table, const Input* x, std::int64_t x_stride,
                  __m512 (&sums)[kTokens][kSums]) {
    const __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    const __m512 even = _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), table);
    const __m512 odd = _mm512_permutexvar_ps(pairs, table);
    for (int t = 0; t < kTokens; ++t) {
      sums[t][0] = _mm512_fmadd_ps(even, _mm512_loadu_ps(x + t * x_stride), sums[t][0]);
      sums[t][kSums - 1] =
          _mm512_fmadd_ps(odd, _mm512_loadu_ps(x + t * x_stride + kUnit / 2), sums[t][kSums - 1]);
    }
  }
};

void multiply_any(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x, int tokens,
                  float* out, std::int64_t out_stride) {
  switch (weight.compute) {
    case DType::kBF16:
      return multiply<FloatFormat<DType::kBF16>>(weight, begin, end, x, tokens, out, out_stride);
    case DType::kF16:
      return multiply<FloatFormat<DType::kF16>>(weight, begin, end, x, tokens, out, out_stride);
    default:
      return multiply<FloatFormat<DType::kF32>>(weight, begin, end, x, tokens, out, out_stride);
  }
}

}  // namespace

const Direct4Functions kAvx512Direct4 = {.takes = takes, .pack = pack, .multiply = multiply_any};

}  // namespace qtool::cpu
