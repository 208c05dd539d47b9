// The kernels for AVX2, FMA and F16C. See kernel_functions.h for what each computes.
#include <immintrin.h>

#include "core/cpu/block4_avx2.h"
#include "core/cpu/kernel_functions.h"

namespace qtool::cpu {

namespace {

constexpr int kLanes = 8;

// Eight values; beyond `count` they are 0.
__m256 load_first(const float* values, std::int64_t count) {
  alignas(32) float padded[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = values[i];
  return _mm256_load_ps(padded);
}

void store_first(float* to, std::int64_t count, __m256 values) {
  alignas(32) float padded[kLanes];
  _mm256_store_ps(padded, values);
  for (std::int64_t i = 0; i < count; ++i) to[i] = padded[i];
}

__m256 round_eight(__m256 values, DType dtype) {
  const __m256 result = rounded(values, dtype);
  if (dtype != DType::kBF16) return result;
  // NaN keeps its sign and upper bits, and becomes quiet.
  const __m256i upper =
      _mm256_and_si256(_mm256_castps_si256(values), _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  const __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(upper, _mm256_set1_epi32(0x00400000)));
  return _mm256_blendv_ps(result, quiet, _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
}

void round(float* values, std::int64_t count, DType dtype) {
  if (dtype == DType::kF32) return;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    _mm256_storeu_ps(values + i, round_eight(_mm256_loadu_ps(values + i), dtype));
  if (i < count) store_first(values + i, count - i, round_eight(load_first(values + i, count - i), dtype));
}

void widen(const std::byte* in, DType from, std::int64_t count, float* out) {
  if (from == DType::kF32) {
    __builtin_memcpy(out, in, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* halves = reinterpret_cast<const std::uint16_t*>(in);
  const auto widen_eight = [from](const std::uint16_t* bits) {
    const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bits));
    return from == DType::kF16 ? _mm256_cvtph_ps(eight)
                               : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
  };
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) _mm256_storeu_ps(out + i, widen_eight(halves + i));
  if (i < count) {
    std::uint16_t padded[kLanes] = {};
    for (std::int64_t j = 0; j < count - i; ++j) padded[j] = halves[i + j];
    store_first(out + i, count - i, widen_eight(padded));
  }
}

float sum_of(__m256 values) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float dot_one(const float* w, const float* x, std::int64_t count) {
  __m256 partial[4];
  for (__m256& sum : partial) sum = _mm256_setzero_ps();
  std::int64_t k = 0;
  for (; k + 4 * kLanes <= count; k += 4 * kLanes)
    for (int i = 0; i < 4; ++i)
      partial[i] = _mm256_fmadd_ps(_mm256_loadu_ps(w + k + i * kLanes), _mm256_loadu_ps(x + k + i * kLanes),
                                   partial[i]);
  for (; k + kLanes <= count; k += kLanes)
    partial[0] = _mm256_fmadd_ps(_mm256_loadu_ps(w + k), _mm256_loadu_ps(x + k), partial[0]);
  if (k < count)
    partial[1] = _mm256_fmadd_ps(load_first(w + k, count - k), load_first(x + k, count - k), partial[1]);
  return sum_of(_mm256_add_ps(_mm256_add_ps(partial[0], partial[1]), _mm256_add_ps(partial[2], partial[3])));
}

void dot(const float* w, const float* x, std::int64_t x_stride, int tokens, std::int64_t count, float* sums) {
  for (int t = 0; t < tokens; ++t) sums[t] += dot_one(w, x + t * x_stride, count);
}

// 4 x 3 sums, three registers of tokens and one weight fill the 16 registers.
template <int kRows, int kGroups>
void multiply_tile(const float* w, const float* x, std::int64_t x_stride, std::int64_t count, float* sums,
                   std::int64_t sums_stride) {
  __m256 partial[kRows][kGroups];
  for (auto& row : partial)
    for (__m256& sum : row) sum = _mm256_setzero_ps();
  for (std::int64_t k = 0; k < count; ++k) {
    __m256 tokens[kGroups];
    for (int g = 0; g < kGroups; ++g) tokens[g] = _mm256_loadu_ps(x + g * x_stride + k * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const __m256 weight = _mm256_broadcast_ss(w + r * kTileDepth + k);
      for (int g = 0; g < kGroups; ++g) partial[r][g] = _mm256_fmadd_ps(weight, tokens[g], partial[r][g]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) {
      float* to = sums + r * sums_stride + g * kLanes;
      _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), partial[r][g]));
    }
  }
}

template <int kRows>
void multiply_rows(const float* w, const float* x, std::int64_t x_stride, std::int64_t groups,
                   std::int64_t count, float* sums, std::int64_t sums_stride) {
  std::int64_t g = 0;
  for (; g + 3 <= groups; g += 3)
    multiply_tile<kRows, 3>(w, x + g * x_stride, x_stride, count, sums + g * kLanes, sums_stride);
  if (groups - g == 2)
    multiply_tile<kRows, 2>(w, x + g * x_stride, x_stride, count, sums + g * kLanes, sums_stride);
  if (groups - g == 1)
    multiply_tile<kRows, 1>(w, x + g * x_stride, x_stride, count, sums + g * kLanes, sums_stride);
}

void multiply(const float* w, int rows, const float* x, std::int64_t x_stride, std::int64_t groups,
              std::int64_t count, float* sums, std::int64_t sums_stride) {
  int r = 0;
  for (; r + 4 <= rows; r += 4)
    multiply_rows<4>(w + r * kTileDepth, x, x_stride, groups, count, sums + r * sums_stride, sums_stride);
  for (; r < rows; ++r)
    multiply_rows<1>(w + r * kTileDepth, x, x_stride, groups, count, sums + r * sums_stride, sums_stride);
}

std::int32_t dot8_one(const std::int8_t* w, const std::int8_t* x, std::int64_t count) {
  constexpr int kCodes = 16;
  __m256i partial = _mm256_setzero_si256();
  std::int64_t k = 0;
  for (; k + kCodes <= count; k += kCodes) {
    const __m256i a = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + k)));
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + k)));
    partial = _mm256_add_epi32(partial, _mm256_madd_epi16(a, b));
  }
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(partial), _mm256_extracti128_si256(partial, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  std::int32_t sum = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
  for (; k < count; ++k) sum += std::int32_t{w[k]} * x[k];
  return sum;
}

void dot8(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t tokens,
          std::int64_t count, std::int32_t* sums, std::int64_t sums_stride) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t t = 0; t < tokens; ++t)
      sums[t * sums_stride + r] = dot8_one(w + r * count, x + t * count, count);
}

void scores(const float* queries, int query_count, const float* keys, int positions, int dim, float scale,
            float* out, int out_stride) {
  for (int q = 0; q < query_count; ++q)
    for (int p = 0; p < positions; ++p)
      out[std::int64_t{q} * out_stride + p] =
          scale * dot_one(queries + std::int64_t{q} * dim, keys + std::int64_t{p} * dim, dim);
}

void weighted_sum(const float* weights, int weights_stride, int query_count, const float* values,
                  int positions, int dim, float* out) {
  for (int q = 0; q < query_count; ++q) {
    float* sums = out + std::int64_t{q} * dim;
    for (int d = 0; d < dim; d += kLanes) {
      const bool whole = d + kLanes <= dim;
      __m256 sum = whole ? _mm256_loadu_ps(sums + d) : load_first(sums + d, dim - d);
      for (int p = 0; p < positions; ++p) {
        const float* row = values + std::int64_t{p} * dim + d;
        const __m256 weight = _mm256_broadcast_ss(weights + std::int64_t{q} * weights_stride + p);
        sum = _mm256_fmadd_ps(weight, whole ? _mm256_loadu_ps(row) : load_first(row, dim - d), sum);
      }
      if (whole)
        _mm256_storeu_ps(sums + d, sum);
      else
        store_first(sums + d, dim - d, sum);
    }
  }
}

}  // namespace

const KernelFunctions kAvx2Functions = {
    .round = round,
    .widen = widen,
    .decode4 = decode4_avx2,
    .dot = dot,
    .lanes = kLanes,
    .multiply = multiply,
    .direct4 = {&kAvx2Direct4, nullptr},
    .dot8 = dot8,
    .scores = scores,
    .weighted_sum = weighted_sum,
};

}  // namespace qtool::cpu
