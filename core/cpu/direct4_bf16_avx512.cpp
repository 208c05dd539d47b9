// The direct product of bfloat16 operands on processors with AVX512_BF16.
//
// Codes become bfloat16 values by one permutation of 32 words (vpermw). Its index takes five bits; the
// codebook stands in the table twice, so that the fifth, a bit of the neighbouring nibble, does not matter:
//
//   32 bytes of codes -> 32 words ab   high nibbles  table[ab >> 4]  elements 0, 2, 4, ... 62
//                                      low nibbles   table[ab]       elements 1, 3, 5, ... 63
//
// The tokens are stored in that order. vdpbf16ps multiplies pairs of bfloat16 values exactly and adds to
// float32 sums: 6 instructions for 64 weights, where float32 lanes take 12. It treats denormal operands and
// sums as 0.
#pragma GCC target("avx512bf16")

#include "core/cpu/direct4_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kUnit = 64;  // weights decoded at once

bool takes(const Block4Rows& weight) {
  return weight.compute == DType::kBF16 && weight.block_size % kUnit == 0 &&
         weight.in % weight.block_size == 0;
}

void pack(const Block4Rows& weight, const float* x, float* out) {
  auto* words = reinterpret_cast<std::uint16_t*>(out);
  for (std::int64_t k = 0; k < weight.in; k += kUnit) {
    for (int i = 0; i < kUnit; ++i) {
      std::uint32_t bits;
      __builtin_memcpy(&bits, x + k + i, sizeof bits);
      words[k + (i % 2) * (kUnit / 2) + i / 2] = static_cast<std::uint16_t>(bits >> 16);
    }
  }
}

struct Bf16Format {
  static constexpr int kUnit = cpu::kUnit;
  using Input = std::uint16_t;
  static constexpr int kInputStride = 2;  // a packed token fills half of its [in] floats
  using Table = __m512i;

  static Table table(__m512 lut, float scale) {
    const __m512 scaled = _mm512_mul_ps(lut, _mm512_set1_ps(scale));
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(scaled, scaled));
  }

  template <int kTokens, int kSums>
  static void add(const std::uint8_t* codes, Table table, const Input* x, std::int64_t x_stride,
                  __m512 (&sums)[kTokens][kSums]) {
    const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    const auto even =
        reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(_mm512_srli_epi16(pairs, 4), table));
    const auto odd = reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(pairs, table));
    for (int t = 0; t < kTokens; ++t) {
      const auto x_even = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + t * x_stride));
      const auto x_odd = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + t * x_stride + kUnit / 2));
      sums[t][0] = _mm512_dpbf16_ps(sums[t][0], even, x_even);
      sums[t][kSums - 1] = _mm512_dpbf16_ps(sums[t][kSums - 1], odd, x_odd);
    }
  }
};

}  // namespace

const Direct4Functions kAvx512Bf16Direct4 = {.takes = takes, .pack = pack, .multiply = multiply<Bf16Format>};

}  // namespace qtool::cpu
