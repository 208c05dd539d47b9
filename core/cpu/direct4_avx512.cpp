// The direct product in float32 lanes, for operands of any type.
//
// A block's 16 values fill one register; a code becomes its value by a permutation of dwords (vpermps), which
// takes the low four bits of its index alone, so a byte needs no masking:
//
//   16 bytes of codes -> 16 dwords ab   high nibbles  table[ab >> 4]  elements 0, 2, 4, ... 30
//                                       low nibbles   table[ab]       elements 1, 3, 5, ... 31
//
// The tokens are stored in that order.
#include "core/cpu/block4_avx512.h"
#include "core/cpu/round_avx512.h"

namespace qtool::cpu {

namespace {

// How far ahead of `rows` rows that are read side by side the weight is fetched from memory: 4 KB hide its
// latency; shorter rows look just as far as to the next ones.
std::int64_t prefetch_distance(const Block4Rows& weight, int rows) {
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
            // Once a cache line: in every second block if they are half a line long.
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
void multiply(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t tokens, float* out, std::int64_t out_stride) {
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

constexpr int kUnit = 32;

bool takes(const Block4Rows& weight) { return weight.in % weight.block_size == 0; }

void pack(const Block4Rows& weight, const float* x, std::int64_t, std::int64_t first, std::int64_t end,
          float* out) {
  for (std::int64_t k = first * weight.in; k < end * weight.in; k += kUnit)
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

void multiply_any(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
                  std::int64_t tokens, float* out, std::int64_t out_stride) {
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

const Direct4Functions kAvx512Direct4 = {.takes = takes,
                                         .least_tokens = 1,
                                         .most_tokens = kDirectTokens,
                                         .pass_tokens = kDirectTokens,
                                         .pack = pack,
                                         .multiply = multiply_any};

}  // namespace qtool::cpu
