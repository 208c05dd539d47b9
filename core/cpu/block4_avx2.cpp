// 4-bit weights with AVX2: decoding, and the direct product.
#include "core/cpu/block4_avx2.h"

namespace qtool::cpu {

namespace {

bool takes(const Block4Rows& weight) {
  return weight.block_size % kUnit == 0 && weight.in % weight.block_size == 0;
}

void pack(const Block4Rows& weight, const float* x, std::int64_t, std::int64_t first, std::int64_t end,
          float* out) {
  for (std::int64_t k = first * weight.in; k < end * weight.in; k += kUnit)
    for (int odd = 0; odd < 2; ++odd)
      for (int v = 0; v < 4; ++v)
        for (int j = 0; j < 8; ++j) {
          const int byte = 4 * v + j + (j < 4 ? 0 : 12);
          out[k + odd * (kUnit / 2) + 8 * v + j] = x[k + 2 * byte + odd];
        }
}

float sum_of(__m256 values) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <int kTokens>
void multiply_tokens(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
                     float* out, std::int64_t out_stride) {
  // One sum for the registers of even v and one for those of odd v: a sum can be added to only every four
  // cycles.
  constexpr int kSums = 2;
  const std::int64_t blocks = weight.in / weight.block_size;
  for (std::int64_t row = begin; row < end; ++row) {
    __m256 sums[kTokens][kSums];
    for (auto& token : sums)
      for (__m256& sum : token) sum = _mm256_setzero_ps();
    const std::uint8_t* codes = weight.packed + row * weight.in / 2;
    const float* input = x;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Planes planes = planes_of(values_of(weight, row * blocks + b));
      for (std::int64_t k = 0; k < weight.block_size; k += kUnit, codes += kUnit / 2, input += kUnit) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + 4096), _MM_HINT_T0);
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
        for (int odd = 0; odd < 2; ++odd) {
          const Lookup found = look_up(planes, odd == 0 ? high_nibbles(bytes) : low_nibbles(bytes));
          for (int t = 0; t < kTokens; ++t) {
            const float* from = input + t * weight.in + odd * (kUnit / 2);
            for (int v = 0; v < 4; ++v)
              sums[t][v % kSums] =
                  _mm256_fmadd_ps(found.value[v], _mm256_loadu_ps(from + 8 * v), sums[t][v % kSums]);
          }
        }
      }
    }
    for (int t = 0; t < kTokens; ++t)
      out[t * out_stride + row] = sum_of(_mm256_add_ps(sums[t][0], sums[t][1]));
  }
}

// More than two tokens would not fit the registers beside planes and look-ups.
void multiply(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t tokens, float* out, std::int64_t out_stride) {
  const FlushToZero flush;
  std::int64_t t = 0;
  for (; t + 2 <= tokens; t += 2)
    multiply_tokens<2>(weight, begin, end, x + t * weight.in, out + t * out_stride, out_stride);
  if (t < tokens) multiply_tokens<1>(weight, begin, end, x + t * weight.in, out + t * out_stride, out_stride);
}

// Puts 16 values of even elements between 16 of odd ones: v counts quarters of a unit.
void store_unit(const Lookup& even, const Lookup& odd, float* out) {
  for (int v = 0; v < 4; ++v) {
    const __m256 lower = _mm256_unpacklo_ps(even.value[v], odd.value[v]);
    const __m256 upper = _mm256_unpackhi_ps(even.value[v], odd.value[v]);
    _mm_storeu_ps(out + 8 * v, _mm256_castps256_ps128(lower));
    _mm_storeu_ps(out + 8 * v + 4, _mm256_castps256_ps128(upper));
    _mm_storeu_ps(out + kUnit / 2 + 8 * v, _mm256_extractf128_ps(lower, 1));
    _mm_storeu_ps(out + kUnit / 2 + 8 * v + 4, _mm256_extractf128_ps(upper, 1));
  }
}

}  // namespace

void decode4_avx2(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out) {
  const FlushToZero flush;
  const std::int64_t end = first + count;
  std::int64_t i = first;
  while (i < end) {
    const std::int64_t block = i / weight.block_size;
    const std::int64_t block_end =
        (block + 1) * weight.block_size < end ? (block + 1) * weight.block_size : end;
    const Values values = values_of(weight, block);
    alignas(32) float table[16];
    _mm256_store_ps(table, values.low);
    _mm256_store_ps(table + 8, values.high);
    if (i % 2 == 1) {
      out[i - first] = table[weight.packed[i / 2] & 15];
      ++i;
    }
    const Planes planes = planes_of(values);
    for (; i + kUnit <= block_end; i += kUnit) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight.packed + i / 2));
      store_unit(look_up(planes, high_nibbles(codes)), look_up(planes, low_nibbles(codes)),
                 out + (i - first));
    }
    for (; i < block_end; ++i) {
      const int pair = weight.packed[i / 2];
      out[i - first] = table[i % 2 == 0 ? pair >> 4 : pair & 15];
    }
  }
}

const Direct4Functions kAvx2Direct4 = {.takes = takes,
                                       .least_tokens = 1,
                                       .most_tokens = kDirectTokens,
                                       .pass_tokens = kDirectTokens,
                                       .rounds_weights = true,
                                       .pack = pack,
                                       .multiply = multiply};

}  // namespace qtool::cpu
