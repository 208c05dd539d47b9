// The kernels for AVX-512 (F, BW, VL, DQ). See kernel_functions.h for what each computes.
#include "core/cpu/immintrin.h"
#include "core/cpu/kernel_functions.h"
#include "core/cpu/round_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kLanes = 16;

__mmask16 first_lanes(std::int64_t count) {
  return count >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1u << count) - 1u);
}

// 16 values; NaN keeps its sign and upper bits, and becomes quiet.
template <DType kType>
__m512 round_lanes(__m512 exact) {
  const __m512 result = rounded<kType>(exact);
  if constexpr (kType != DType::kBF16) return result;
  const __mmask16 nan = _mm512_cmp_ps_mask(exact, exact, _CMP_UNORD_Q);
  const __m512i upper =
      _mm512_and_si512(_mm512_castps_si512(exact), _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
  return _mm512_mask_mov_ps(result, nan,
                            _mm512_castsi512_ps(_mm512_or_si512(upper, _mm512_set1_epi32(0x00400000))));
}

template <DType kType>
void round_to(float* values, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    _mm512_storeu_ps(values + i, round_lanes<kType>(_mm512_loadu_ps(values + i)));
  const __mmask16 rest = first_lanes(count - i);
  _mm512_mask_storeu_ps(values + i, rest, round_lanes<kType>(_mm512_maskz_loadu_ps(rest, values + i)));
}

void round(float* values, std::int64_t count, DType dtype) {
  if (dtype == DType::kBF16) round_to<DType::kBF16>(values, count);
  if (dtype == DType::kF16) round_to<DType::kF16>(values, count);
}

template <DType kType>
__m512 widen_lanes(__m256i bits) {
  if constexpr (kType == DType::kF16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Only whole registers are stored where a reader follows at once: it would have to wait for a masked one.
template <DType kType>
void widen_from(const std::uint16_t* in, std::int64_t count, float* out) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    _mm_prefetch(reinterpret_cast<const char*>(in + i) + 4096, _MM_HINT_T0);
    _mm512_storeu_ps(out + i,
                     widen_lanes<kType>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i))));
    _mm512_storeu_ps(
        out + i + kLanes,
        widen_lanes<kType>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i + kLanes))));
  }
  for (; i < count; i += kLanes) {
    const __mmask16 rest = first_lanes(count - i);
    _mm512_mask_storeu_ps(out + i, rest, widen_lanes<kType>(_mm256_maskz_loadu_epi16(rest, in + i)));
  }
}

void widen(const std::byte* in, DType from, std::int64_t count, float* out) {
  const auto* halves = reinterpret_cast<const std::uint16_t*>(in);
  if (from == DType::kF32)
    __builtin_memcpy(out, in, static_cast<std::size_t>(count) * sizeof(float));
  else if (from == DType::kF16)
    widen_from<DType::kF16>(halves, count, out);
  else
    widen_from<DType::kBF16>(halves, count, out);
}

// The sums of 16 registers' lanes, in order: four rounds, each adding halves of twice as many registers.
__m512 sums_of(const __m512 (&v)[16]) {
  __m512 pairs[8];
  for (int i = 0; i < 8; ++i)
    pairs[i] =
        _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
  __m512 quads[4];
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(pairs[2 * i]);
    const __m512d b = _mm512_castps_pd(pairs[2 * i + 1]);
    quads[i] =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  __m512 halves[2];
  for (int i = 0; i < 2; ++i)
    halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(quads[2 * i], quads[2 * i + 1], 0x88),
                              _mm512_shuffle_f32x4(quads[2 * i], quads[2 * i + 1], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                       _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}

template <int kTokens>
void dot_tokens(const float* w, const float* x, std::int64_t x_stride, std::int64_t count, float* sums) {
  __m512 partial[16];
  for (__m512& sum : partial) sum = _mm512_setzero_ps();
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= count; k += 2 * kLanes) {
    const __m512 first = _mm512_loadu_ps(w + k);
    const __m512 second = _mm512_loadu_ps(w + k + kLanes);
    for (int t = 0; t < kTokens; ++t) {
      partial[t] = _mm512_fmadd_ps(first, _mm512_loadu_ps(x + t * x_stride + k), partial[t]);
      partial[8 + t] =
          _mm512_fmadd_ps(second, _mm512_loadu_ps(x + t * x_stride + k + kLanes), partial[8 + t]);
    }
  }
  for (; k < count; k += kLanes) {
    const __mmask16 mask = first_lanes(count - k);
    const __m512 values = _mm512_maskz_loadu_ps(mask, w + k);
    for (int t = 0; t < kTokens; ++t)
      partial[t] = _mm512_fmadd_ps(values, _mm512_maskz_loadu_ps(mask, x + t * x_stride + k), partial[t]);
  }
  for (int t = 0; t < kTokens; ++t)
    sums[t] += _mm512_reduce_add_ps(_mm512_add_ps(partial[t], partial[8 + t]));
}

void dot(const float* w, const float* x, std::int64_t x_stride, int tokens, std::int64_t count, float* sums) {
  switch (tokens) {
    case 1:
      return dot_tokens<1>(w, x, x_stride, count, sums);
    case 2:
      return dot_tokens<2>(w, x, x_stride, count, sums);
    case 3:
      return dot_tokens<3>(w, x, x_stride, count, sums);
    case 4:
      return dot_tokens<4>(w, x, x_stride, count, sums);
    case 5:
      return dot_tokens<5>(w, x, x_stride, count, sums);
    case 6:
      return dot_tokens<6>(w, x, x_stride, count, sums);
    case 7:
      return dot_tokens<7>(w, x, x_stride, count, sums);
    default:
      return dot_tokens<8>(w, x, x_stride, count, sums);
  }
}

// kRows weights meet kGroups registers of tokens: 8 x 3 sums fill 24 of 32 registers, and 3 loads and 8
// broadcasts feed 24 multiply-adds.
template <int kRows, int kGroups>
void multiply_tile(const float* w, const float* x, std::int64_t x_stride, std::int64_t count, float* sums,
                   std::int64_t sums_stride) {
  __m512 partial[kRows][kGroups];
  for (auto& row : partial)
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  for (std::int64_t k = 0; k < count; ++k) {
    __m512 tokens[kGroups];
    for (int g = 0; g < kGroups; ++g) tokens[g] = _mm512_loadu_ps(x + g * x_stride + k * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const __m512 weight = _mm512_set1_ps(w[r * kTileDepth + k]);
      for (int g = 0; g < kGroups; ++g) partial[r][g] = _mm512_fmadd_ps(weight, tokens[g], partial[r][g]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int g = 0; g < kGroups; ++g) {
      float* to = sums + r * sums_stride + g * kLanes;
      _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), partial[r][g]));
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
  if (rows == kTileRows) return multiply_rows<kTileRows>(w, x, x_stride, groups, count, sums, sums_stride);
  for (int r = 0; r < rows; ++r)
    multiply_rows<1>(w + r * kTileDepth, x, x_stride, groups, count, sums + r * sums_stride, sums_stride);
}

// Four queries with four keys at a time: 16 sums, added up together. Rows that are missing repeat the last
// one, so every score is summed in the same order.
void scores(const float* queries, int query_count, const float* keys, int positions, int dim, float scale,
            float* out, int out_stride) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int q = 0; q < query_count; q += 4) {
    for (int p = 0; p < positions; p += 4) {
      const float* query[4];
      const float* key[4];
      for (int i = 0; i < 4; ++i) {
        query[i] = queries + std::int64_t{q + i < query_count ? q + i : query_count - 1} * dim;
        key[i] = keys + std::int64_t{p + i < positions ? p + i : positions - 1} * dim;
      }
      __m512 partial[16];
      for (__m512& sum : partial) sum = _mm512_setzero_ps();
      for (int d = 0; d < dim; d += kLanes) {
        const __mmask16 mask = first_lanes(dim - d);
        __m512 columns[4];
        for (int j = 0; j < 4; ++j) columns[j] = _mm512_maskz_loadu_ps(mask, key[j] + d);
        for (int i = 0; i < 4; ++i) {
          const __m512 values = _mm512_maskz_loadu_ps(mask, query[i] + d);
          for (int j = 0; j < 4; ++j)
            partial[4 * i + j] = _mm512_fmadd_ps(values, columns[j], partial[4 * i + j]);
        }
      }
      alignas(64) float block[16];
      _mm512_store_ps(block, _mm512_mul_ps(factor, sums_of(partial)));
      for (int i = 0; i < 4 && q + i < query_count; ++i)
        for (int j = 0; j < 4 && p + j < positions; ++j)
          out[std::int64_t{q + i} * out_stride + p + j] = block[4 * i + j];
    }
  }
}

template <int kQueries>
void weighted_sum_of(const float* weights, int weights_stride, const float* values, int positions, int dim,
                     float* out) {
  constexpr int kColumns = 4;  // registers a query
  for (int d = 0; d < dim; d += kColumns * kLanes) {
    __mmask16 masks[kColumns];
    for (int c = 0; c < kColumns; ++c)
      masks[c] = dim - d - c * kLanes > 0 ? first_lanes(dim - d - c * kLanes) : 0;
    __m512 sums[kQueries][kColumns];
    for (int q = 0; q < kQueries; ++q)
      for (int c = 0; c < kColumns; ++c)
        sums[q][c] = _mm512_maskz_loadu_ps(masks[c], out + std::int64_t{q} * dim + d + c * kLanes);
    for (int p = 0; p < positions; ++p) {
      __m512 row[kColumns];
      for (int c = 0; c < kColumns; ++c)
        row[c] = _mm512_maskz_loadu_ps(masks[c], values + std::int64_t{p} * dim + d + c * kLanes);
      for (int q = 0; q < kQueries; ++q) {
        const __m512 weight = _mm512_set1_ps(weights[q * weights_stride + p]);
        for (int c = 0; c < kColumns; ++c) sums[q][c] = _mm512_fmadd_ps(weight, row[c], sums[q][c]);
      }
    }
    for (int q = 0; q < kQueries; ++q)
      for (int c = 0; c < kColumns; ++c)
        _mm512_mask_storeu_ps(out + std::int64_t{q} * dim + d + c * kLanes, masks[c], sums[q][c]);
  }
}

void weighted_sum(const float* weights, int weights_stride, int query_count, const float* values,
                  int positions, int dim, float* out) {
  int q = 0;
  for (; q + 4 <= query_count; q += 4)
    weighted_sum_of<4>(weights + q * weights_stride, weights_stride, values, positions, dim,
                       out + std::int64_t{q} * dim);
  for (; q < query_count; ++q)
    weighted_sum_of<1>(weights + q * weights_stride, weights_stride, values, positions, dim,
                       out + std::int64_t{q} * dim);
}

}  // namespace

const KernelFunctions kAvx512Functions = {
    .round = round,
    .widen = widen,
    .decode4 = decode4_avx512,
    .dot = dot,
    .lanes = kLanes,
    .multiply = multiply,
    .direct4 = {&kAvx512Direct4, nullptr},
    .dot8 = dot8_avx512,
    .scores = scores,
    .weighted_sum = weighted_sum,
};

}  // namespace qtool::cpu
