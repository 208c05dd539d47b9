// What both AVX-512 direct products share. Unnamed on purpose: each file compiled for AVX-512 keeps its own
// copy.
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

constexpr int kScales =
    16;  // decoded at a time: their loads hide behind the products of the 16 blocks before

// The scales of blocks [first, first + count), count <= kScales. NaN becomes the plain NaN, which survives
// rounding.
// `out` has kScalesBuffer floats.
[[maybe_unused, gnu::always_inline]] inline void scales_of(const Block4Rows& weight, std::int64_t first, int count, float* out) {
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

// How far ahead of `rows` rows that are read side by side the weight is fetched from memory: 4 KB hide its
// latency; shorter rows look just as far as to the next ones.
[[maybe_unused]] std::int64_t prefetch_distance(const Block4Rows& weight, int rows) {
  const std::int64_t next = rows * weight.in / 2;
  return rows == 1 || next > 4096 ? 4096 : next;
}

// The product of kRows rows, from `row` on, with kTokens tokens. A Format says how codes become values:
//   kUnit             weights decoded at once
//   Input             element type of packed tokens; kInputStride of them a column
//   Table             a register with the block's 16 values
//   table(lut, scale) makes it
//   add(codes, table, x, x_stride, sums)  sums[t][..] += products of kUnit weights with each token; even and
//   odd
//                     elements go to sums of their own if there are two
//
// kBlock is weight.block_size where it is worth compiling for, else 0.
template <typename Format, int kTokens, int kRows, int kBlock>
void multiply_rows(const Block4Rows& weight, std::int64_t row, std::int64_t end, const float* x, float* out,
                   std::int64_t out_stride) {
  // A sum can be added to only every four cycles, so a single token needs several; many would not fit the
  // registers.
  constexpr int kSums = kTokens * kRows <= 8 ? 2 : 1;
  constexpr int kPhases = kTokens * kRows <= 2 ? 2 : 1;
  const __m512 lut = _mm512_loadu_ps(weight.lut);
  const auto* inputs = reinterpret_cast<const typename Format::Input*>(x);
  const std::int64_t x_stride = weight.in * Format::kInputStride;
  const std::int64_t block_size = kBlock > 0 ? kBlock : weight.block_size;
  const std::int64_t blocks = weight.in / block_size;
  const std::int64_t row_bytes = weight.in / 2;
  const std::int64_t ahead = prefetch_distance(weight, kRows);

  for (; row + kRows <= end; row += kRows) {
    __m512 sums[kPhases][kRows][kTokens][kSums];
    for (auto& phase : sums)
      for (auto& row_sums : phase)
        for (auto& token_sums : row_sums)
          for (__m512& sum : token_sums) sum = _mm512_setzero_ps();

    alignas(64) float scales[kRows][kScalesBuffer];
    const std::uint8_t* codes = weight.packed + row * row_bytes;
    const typename Format::Input* input = inputs;
    for (std::int64_t first = 0; first < blocks; first += kScales) {
      const int count = static_cast<int>(blocks - first < kScales ? blocks - first : kScales);
      for (int r = 0; r < kRows; ++r) scales_of(weight, (row + r) * blocks + first, count, scales[r]);
      const auto block = [&](int b, int phase) {
        typename Format::Table table[kRows];
        for (int r = 0; r < kRows; ++r) table[r] = Format::table(lut, scales[r][b]);
        for (std::int64_t k = 0; k < block_size; k += Format::kUnit) {
          for (int r = 0; r < kRows; ++r) {
            // Once a cache line, if that is two blocks of 64 long: it begins in the first.
            if (kBlock != 64 || (phase == 0 && k == 0))
              _mm_prefetch(reinterpret_cast<const char*>(codes + r * row_bytes + ahead), _MM_HINT_T0);
            Format::add(codes + r * row_bytes, table[r], input, x_stride, sums[phase][r]);
          }
          input += Format::kUnit;
          codes += Format::kUnit / 2;
        }
      };
      int b = 0;
      if constexpr (kPhases == 2) {
        for (; b + 2 <= count; b += 2) {
          block(b, 0);
          block(b + 1, 1);
        }
      }
      for (; b < count; ++b) block(b, 0);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kTokens; ++t) {
        __m512 sum = _mm512_setzero_ps();
        for (int phase = 0; phase < kPhases; ++phase)
          for (int i = 0; i < kSums; ++i) sum = _mm512_add_ps(sum, sums[phase][r][t][i]);
        out[t * out_stride + row + r] = _mm512_reduce_add_ps(sum);
      }
    }
  }
}

template <typename Format, int kTokens, int kBlock>
void multiply_blocks(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
                     float* out, std::int64_t out_stride) {
  // One token: a single row is one run through memory. More: two rows share the loads of the tokens.
  constexpr int kRows = kTokens == 1 ? 1 : 2;
  const std::int64_t even_end = end - (end - begin) % kRows;
  multiply_rows<Format, kTokens, kRows, kBlock>(weight, begin, even_end, x, out, out_stride);
  if (even_end < end) multiply_rows<Format, kTokens, 1, kBlock>(weight, even_end, end, x, out, out_stride);
}

template <typename Format, int kTokens>
void multiply_tokens(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
                     float* out, std::int64_t out_stride) {
  if (weight.block_size == 64)
    return multiply_blocks<Format, kTokens, 64>(weight, begin, end, x, out, out_stride);
  return multiply_blocks<Format, kTokens, 0>(weight, begin, end, x, out, out_stride);
}

template <typename Format>
void multiply(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x, int tokens,
              float* out, std::int64_t out_stride) {
  const FlushToZero flush;
  switch (tokens) {
    case 1:
      return multiply_tokens<Format, 1>(weight, begin, end, x, out, out_stride);
    case 2:
      return multiply_tokens<Format, 2>(weight, begin, end, x, out, out_stride);
    case 3:
      return multiply_tokens<Format, 3>(weight, begin, end, x, out, out_stride);
    case 4:
      return multiply_tokens<Format, 4>(weight, begin, end, x, out, out_stride);
    case 5:
      return multiply_tokens<Format, 5>(weight, begin, end, x, out, out_stride);
    case 6:
      return multiply_tokens<Format, 6>(weight, begin, end, x, out, out_stride);
    case 7:
      return multiply_tokens<Format, 7>(weight, begin, end, x, out, out_stride);
    default:
      return multiply_tokens<Format, 8>(weight, begin, end, x, out, out_stride);
  }
}

}  // namespace

}  // namespace qtool::cpu
