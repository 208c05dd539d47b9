// The direct product of a packed 4-bit weight with up to eight tokens: decoded in registers, never stored.
//
// 64 bytes of codes are 16 dwords of eight nibbles: lane i holds elements 8i .. 8i + 7 of 128 consecutive
// ones. A code becomes its codebook value by a permutation of dwords (vpermps), which looks at the low four
// bits of its index alone, so a shift brings the next nibble and nothing needs a mask:
//
//   nibble j of every lane      table[codes >> 4j], elements 8i + (j ^ 1): the high nibble of a byte comes
//   first
//
// The tokens are stored in that order. The table is the plain codebook, the same for all blocks; what a chunk
// of 128 sums up is multiplied by its blocks' scales afterwards, in float32. So a weight is never rounded to
// the compute type here: the result is closer to the exact product than that of dequantized 16-bit weights,
// and 26 instructions on the two vector ports serve 64 bytes, where scaling and rounding a table for every
// block took 36 (NF4 with bf16 inputs: 21.9 instead of 15.0 GB/s of weights on two Sapphire Rapids cores that
// read 35.7).
#include "core/cpu/block4_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kChunk = 128;  // elements of one register of codes
constexpr int kNibbles = 8;  // of a lane
constexpr int kLanes = 16;

// How far ahead the weight is fetched from memory: 4 KB hide its latency.
constexpr std::int64_t kAhead = 4096;

// The scales of a chunk's lanes, from those of the group of blocks it lies in; `element` is its place in the
// group.
template <int kBlock>
__m512 lane_scales(const float* scales, std::int64_t element, int block_size) {
  if constexpr (kBlock == 32) {
    const __m512i block_of_lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(block_of_lane, _mm512_castps128_ps512(_mm_loadu_ps(scales + element / 32)));
  } else if constexpr (kBlock == 64) {
    const float* two = scales + element / 64;
    return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(two[0]), _mm512_set1_ps(two[1]));
  } else {
    return _mm512_set1_ps(scales[element / block_size]);
  }
}

// totals[t] += scales * (codes . tokens) over one chunk; `lanes` of it exist.
template <int kTokens>
void add_chunk(__m512i codes, __m512 table, __m512 scales, const float* x, std::int64_t x_stride,
               __mmask16 mask, std::int64_t lanes, __m512 (&totals)[kTokens]) {
  // A sum can be added to only every four cycles: two chains a token.
  __m512 sums[kTokens][2];
#pragma GCC unroll 8
  for (int j = 0; j < kNibbles; ++j) {
    const __m512 values =
        _mm512_permutexvar_ps(_mm512_srli_epi32(codes, static_cast<unsigned>(4 * j)), table);
    for (int t = 0; t < kTokens; ++t) {
      const __m512 inputs = _mm512_maskz_loadu_ps(mask, x + t * x_stride + j * lanes);
      sums[t][j % 2] =
          j < 2 ? _mm512_mul_ps(values, inputs) : _mm512_fmadd_ps(values, inputs, sums[t][j % 2]);
    }
  }
  for (int t = 0; t < kTokens; ++t)
    totals[t] = _mm512_fmadd_ps(_mm512_add_ps(sums[t][0], sums[t][1]), scales, totals[t]);
}

template <int kTokens, int kBlock>
void multiply_rows(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x, float* out,
                   std::int64_t out_stride) {
  const __m512 table = _mm512_loadu_ps(weight.lut);
  const int block_size = kBlock > 0 ? kBlock : weight.block_size;
  const std::int64_t blocks = weight.in / block_size;
  for (std::int64_t row = begin; row < end; ++row) {
    __m512 totals[kTokens];
    for (__m512& total : totals) total = _mm512_setzero_ps();
    alignas(64) float scales[kScalesBuffer];
    const std::uint8_t* codes = weight.packed + row * (weight.in / 2);
    const float* inputs = x;
    for (std::int64_t first = 0; first < blocks; first += kScales) {
      const int count = static_cast<int>(blocks - first < kScales ? blocks - first : kScales);
      scales_of(weight, row * blocks + first, count, scales);
      const std::int64_t elements = std::int64_t{count} * block_size;
      std::int64_t element = 0;
      for (; element + kChunk <= elements; element += kChunk) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
        add_chunk(_mm512_loadu_si512(codes), table, lane_scales<kBlock>(scales, element, block_size), inputs,
                  weight.in, 0xffff, kLanes, totals);
        codes += kChunk / 2;
        inputs += kChunk;
      }
      if (element < elements) {  // the end of the row
        const std::int64_t lanes = (elements - element) / kNibbles;
        const auto mask = static_cast<__mmask16>((1u << lanes) - 1u);
        add_chunk(_mm512_maskz_loadu_epi32(mask, codes), table,
                  _mm512_maskz_mov_ps(mask, lane_scales<kBlock>(scales, element, block_size)), inputs,
                  weight.in, mask, lanes, totals);
      }
    }
    for (int t = 0; t < kTokens; ++t) out[t * out_stride + row] = _mm512_reduce_add_ps(totals[t]);
  }
}

template <int kTokens>
void multiply_tokens(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
                     float* out, std::int64_t out_stride) {
  if (weight.block_size == 64) return multiply_rows<kTokens, 64>(weight, begin, end, x, out, out_stride);
  if (weight.block_size == 32) return multiply_rows<kTokens, 32>(weight, begin, end, x, out, out_stride);
  return multiply_rows<kTokens, 0>(weight, begin, end, x, out, out_stride);
}

void multiply(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t tokens, float* out, std::int64_t out_stride) {
  using Multiply =
      void (*)(const Block4Rows&, std::int64_t, std::int64_t, const float*, float*, std::int64_t);
  static constexpr Multiply kByTokens[kDirectTokens] = {
      multiply_tokens<1>, multiply_tokens<2>, multiply_tokens<3>, multiply_tokens<4>,
      multiply_tokens<5>, multiply_tokens<6>, multiply_tokens<7>, multiply_tokens<8>};
  const FlushToZero flush;
  kByTokens[tokens - 1](weight, begin, end, x, out, out_stride);
}

bool takes(const Block4Rows& weight) { return weight.in % weight.block_size == 0; }

void pack(const Block4Rows& weight, const float* x, std::int64_t, std::int64_t first, std::int64_t end,
          float* out) {
  for (std::int64_t t = first; t < end; ++t) {
    for (std::int64_t k = 0; k < weight.in; k += kChunk) {
      const std::int64_t left = weight.in - k;
      const std::int64_t lanes = (left < kChunk ? left : kChunk) / kNibbles;
      const float* from = x + t * weight.in + k;
      float* to = out + t * weight.in + k;
      for (int j = 0; j < kNibbles; ++j)
        for (std::int64_t lane = 0; lane < lanes; ++lane)
          to[j * lanes + lane] = from[kNibbles * lane + (j ^ 1)];
    }
  }
}

}  // namespace

const Direct4Functions kAvx512Direct4 = {.takes = takes,
                                         .least_tokens = 1,
                                         .most_tokens = kDirectTokens,
                                         .pass_tokens = kDirectTokens,
                                         .rounds_weights = false,
                                         .pack = pack,
                                         .multiply = multiply};

}  // namespace qtool::cpu
