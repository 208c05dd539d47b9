// Quantization with AVX-512. Everything defined here is local to the file, see quantize_kernels.h.
//
// Codes of 32 values at a time, as 16 pairs: the even values of the pairs in one register, the odd ones in
// another, so that a pair's codes meet in one 32-bit lane as a byte. A code takes one look into a table of 32
// cells (CellTable) and one comparison instead of 15 comparisons:
//
//      p = value * r
//      cell = low bits of (15 p + 1.5 * 2^23)
//      code = below[cell] + (threshold[cell] < p)
#include <cstdint>
#include <cstring>

#include "core/cpu/immintrin.h"
#include "core/cpu/quantize_kernels.h"
#include "core/cpu/quantize_tables.h"
#include "core/quant/reciprocal.h"

namespace qtool {

namespace {

// Blocks with an absmax outside of this range are left to the reference. From 2^-100 up a denormal value
// scales to less than any threshold, as the zero that the GPU takes it for does; beyond 2^126 the reciprocal
// is zero.
constexpr std::uint32_t kLowestBits = 0x0d800000u;
constexpr std::uint32_t kHighestBits = 0x7e800000u;

// Magnitudes compare like the integers that their bits are.
__m512i max_of_16bit(const void* values, std::int64_t count) {  // count: multiple of 32
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  const auto* at = static_cast<const std::uint16_t*>(values);
  __m512i largest = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < count; i += 32)
    largest = _mm512_max_epu16(largest, _mm512_and_si512(_mm512_loadu_si512(at + i), magnitude));
  return largest;
}

std::uint32_t reduce_max_16bit(__m512i v) {
  const __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  const __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // There is an instruction for the minimum of eight.
  const __m128i complement = _mm_xor_si128(quarter, _mm_set1_epi16(-1));
  return ~static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(complement))) & 0xffffu;
}

__m512i max_of_32bit(const void* values, std::int64_t count) {  // count: multiple of 16
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const auto* at = static_cast<const std::uint32_t*>(values);
  __m512i largest = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < count; i += 16)
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_loadu_si512(at + i), magnitude));
  return largest;
}

// Bits of the largest magnitude, in the source's own type.
template <QuantizeSource kSource>
std::uint32_t largest_bits(const void* values, std::int64_t count) {  // count: multiple of 32
  if constexpr (kSource == kFromF32)
    return _mm512_reduce_max_epu32(max_of_32bit(values, count));
  else
    return reduce_max_16bit(max_of_16bit(values, count));
}

template <QuantizeSource kSource>
__m512 widened(__m512i bits) {  // one value of the source's type in each 32-bit lane
  if constexpr (kSource == kFromF32) return _mm512_castsi512_ps(bits);
  if constexpr (kSource == kFromF16) return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits));
  return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

// approximate_reciprocal of 16 normal values up to 2^126. core/quant/reciprocal.h explains the unit; its sum
// has 40 bits, of which c0's upper ones are set aside here, so that the rest is a positive 32-bit number to
// be subtracted.
__m512 reciprocals(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i exponent = _mm512_srli_epi32(bits, 23);
  const __m512i x = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff));
  const __m512i segment = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x7f));
  const __m512i row = _mm512_mullo_epi32(segment, _mm512_set1_epi32(3));
  const __m512i c0 = _mm512_i32gather_epi32(row, &kReciprocalSegments[0].c0, 4);
  const __m512i c1 = _mm512_i32gather_epi32(row, &kReciprocalSegments[0].c1, 4);
  const __m512i c2 = _mm512_i32gather_epi32(row, &kReciprocalSegments[0].c2, 4);

  __m512i square = _mm512_setzero_si512();
  for (int i = 1; i < 16; ++i) {
    const int first = i < 8 ? 16 - i : i + 1;
    const __m512i above = _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(~0u << first)));
    const __m512i diagonal = _mm512_set1_epi32(i >= 9 ? static_cast<int>(1u << (2 * i)) : 0);
    const __m512i term = _mm512_add_epi32(_mm512_sll_epi32(above, _mm_cvtsi32_si128(i + 1)), diagonal);
    square =
        _mm512_mask_add_epi32(square, _mm512_test_epi32_mask(x, _mm512_set1_epi32(1 << i)), square, term);
  }
  square = _mm512_srli_epi32(square, 17);

  const __m512i fraction = _mm512_slli_epi32(_mm512_and_si512(c0, _mm512_set1_epi32(3)), 13);
  __m512i less = _mm512_sub_epi32(_mm512_mullo_epi32(c1, x), _mm512_mullo_epi32(c2, square));
  less =
      _mm512_add_epi32(_mm512_sub_epi32(less, fraction), _mm512_set1_epi32(2 * 32768 - 1 - kReciprocalBias));
  const __m512i whole = _mm512_add_epi32(_mm512_srli_epi32(c0, 2), _mm512_set1_epi32(1));
  const __m512i result = _mm512_sub_epi32(whole, _mm512_srli_epi32(less, 15));
  const __m512i scale = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(252), exponent), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(result, scale));
}

struct Pairs {
  __m512 even, odd;
};

template <QuantizeSource kSource>
Pairs load_pairs(const void* values, std::int64_t first) {  // 32 values
  if constexpr (kSource == kFromBF16) {
    // A 32-bit lane holds a pair, and bfloat16 is the upper half of a float.
    const __m512i both = _mm512_loadu_si512(static_cast<const std::uint16_t*>(values) + first);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  } else {
    __m512 low, high;
    if constexpr (kSource == kFromF16) {
      const __m512i halves = _mm512_loadu_si512(static_cast<const std::uint16_t*>(values) + first);
      low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
      high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
    } else {
      low = _mm512_loadu_ps(static_cast<const float*>(values) + first);
      high = _mm512_loadu_ps(static_cast<const float*>(values) + first + 16);
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return {_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
  }
}

__m512i cells_of(__m512 scaled) {
  return _mm512_castps_si512(_mm512_fmadd_ps(scaled, _mm512_set1_ps(15.0f), _mm512_set1_ps(0x1.8p23f)));
}

struct Nf4 {
  __m512 threshold0 = _mm512_load_ps(kNf4Cells.threshold);
  __m512 threshold1 = _mm512_load_ps(kNf4Cells.threshold + 16);
  __m512i below0 = _mm512_load_si512(kNf4Cells.below);
  __m512i below1 = _mm512_load_si512(kNf4Cells.below + 16);

  __m512i codes(__m512 values, __m512 reciprocal) const {
    const __m512 scaled = _mm512_mul_ps(values, reciprocal);
    const __m512i cell = cells_of(scaled);
    const __m512 threshold = _mm512_permutex2var_ps(threshold0, cell, threshold1);
    const __m512i below = _mm512_permutex2var_epi32(below0, cell, below1);
    const __mmask16 above = _mm512_cmp_ps_mask(threshold, scaled, _CMP_LT_OQ);
    return _mm512_mask_add_epi32(below, above, below, _mm512_set1_epi32(1));
  }
};

struct Fp4 {
  __m512 threshold = _mm512_load_ps(kFp4Cells.threshold);
  __m512i below = _mm512_load_si512(kFp4Cells.below);
  __m512i above = _mm512_load_si512(kFp4Cells.above);

  __m512i codes(__m512 values, __m512 reciprocal) const {
    const __m512 scaled = _mm512_mul_ps(values, reciprocal);
    const __m512 magnitude = _mm512_abs_ps(scaled);
    const __m512i cell = cells_of(magnitude);
    const __mmask16 is_above =
        _mm512_cmp_ps_mask(_mm512_permutexvar_ps(cell, threshold), magnitude, _CMP_LT_OQ);
    __m512i code = _mm512_permutexvar_epi32(cell, below);
    code = _mm512_mask_permutexvar_epi32(code, is_above, cell, above);
    // The GPU flushes denormals, before and after scaling, to a zero that is not negative.
    const __m512 least = _mm512_set1_ps(-0x1p-126f);
    const __mmask16 negative =
        _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(values, least, _CMP_LE_OQ), scaled, least, _CMP_LE_OQ);
    return _mm512_mask_or_epi32(code, negative, code, _mm512_set1_epi32(8));
  }
};

template <QuantizeSource kSource, class Code>
std::uint32_t block4(const void* values, int blocks, int block_size, std::uint8_t* packed, float* absmax) {
  constexpr std::int64_t kElementBytes = kSource == kFromF32 ? 4 : 2;
  const auto* bytes = static_cast<const unsigned char*>(values);

  alignas(64) std::uint32_t largest[kMaxKernelBlocks] = {};
  for (int b = 0; b < blocks; ++b)
    largest[b] = largest_bits<kSource>(bytes + b * block_size * kElementBytes, block_size);
  const __m512 all_absmax = widened<kSource>(_mm512_load_si512(largest));
  const __mmask16 used = static_cast<__mmask16>((1u << blocks) - 1u);
  _mm512_mask_storeu_ps(absmax, used, all_absmax);
  const __m512i above_lowest =
      _mm512_sub_epi32(_mm512_castps_si512(all_absmax), _mm512_set1_epi32(static_cast<int>(kLowestBits)));
  const __mmask16 special = _mm512_mask_cmpgt_epu32_mask(
      used, above_lowest, _mm512_set1_epi32(static_cast<int>(kHighestBits - kLowestBits)));
  alignas(64) float reciprocal[kMaxKernelBlocks];
  _mm512_store_ps(reciprocal, reciprocals(all_absmax));

  const Code book;
  for (int b = 0; b < blocks; ++b) {
    if ((special >> b & 1) != 0) continue;
    const __m512 r = _mm512_set1_ps(reciprocal[b]);
    const unsigned char* block = bytes + b * block_size * kElementBytes;
    std::uint8_t* out = packed + b * block_size / 2;
    for (int i = 0; i < block_size; i += 32) {
      const Pairs pairs = load_pairs<kSource>(block, i);
      const __m512i high = _mm512_slli_epi32(book.codes(pairs.even, r), 4);
      const __m512i byte = _mm512_or_si512(high, book.codes(pairs.odd, r));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i / 2), _mm512_cvtepi32_epi8(byte));
    }
  }
  return special;
}

// 16 values, rounded through float16.
template <QuantizeSource kSource>
__m512 load_half_precision(const void* values, std::int64_t first) {
  if constexpr (kSource == kFromF16) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(
        reinterpret_cast<const __m256i*>(static_cast<const std::uint16_t*>(values) + first)));
  } else {
    __m512 wide;
    if constexpr (kSource == kFromF32) {
      wide = _mm512_loadu_ps(static_cast<const float*>(values) + first);
    } else {
      const __m256i narrow = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(static_cast<const std::uint16_t*>(values) + first));
      wide = widened<kFromBF16>(_mm512_cvtepu16_epi32(narrow));
    }
    return _mm512_cvtph_ps(_mm512_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
}

template <QuantizeSource kSource>
__m128i int8_codes(const void* values, std::int64_t first, __m512 scale) {
  const __m512 scaled = _mm512_mul_ps(load_half_precision<kSource>(values, first), scale);
  return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(scaled));  // rounds ties to even
}

template <QuantizeSource kSource>
bool int8_row(const void* values, std::int64_t count, std::int8_t* codes, float* absmax) {
  constexpr std::int64_t kElementBytes = kSource == kFromF32 ? 4 : 2;
  constexpr std::int64_t kStep = 32;
  const std::int64_t whole = count / kStep * kStep;
  const auto rest = static_cast<std::size_t>(count - whole);
  alignas(64) unsigned char tail[kStep * kElementBytes] = {};  // the last values, zeros behind them
  std::memcpy(tail, static_cast<const unsigned char*>(values) + whole * kElementBytes, rest * kElementBytes);

  const std::uint32_t body_largest = largest_bits<kSource>(values, whole);
  const std::uint32_t tail_largest = largest_bits<kSource>(tail, kStep);
  const __m512i largest =
      _mm512_set1_epi32(static_cast<int>(body_largest > tail_largest ? body_largest : tail_largest));
  // Rounding to float16 keeps the order, so the largest stays the largest.
  const __m128i half = _mm_cvtps_ph(_mm512_castps512_ps128(widened<kSource>(largest)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const float row_absmax = _mm_cvtss_f32(_mm_cvtph_ps(half));
  if (!(row_absmax > 0.0f && row_absmax < 0x1p16f)) return false;

  const __m512 scale = _mm512_set1_ps(127.0f * approximate_reciprocal(row_absmax));
  for (std::int64_t i = 0; i < whole; i += 16)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), int8_codes<kSource>(values, i, scale));
  if (rest != 0) {
    alignas(16) std::int8_t last[kStep];
    for (std::int64_t i = 0; i < kStep; i += 16)
      _mm_store_si128(reinterpret_cast<__m128i*>(last + i), int8_codes<kSource>(tail, i, scale));
    std::memcpy(codes + whole, last, rest);
  }
  *absmax = row_absmax;
  return true;
}

}  // namespace

const QuantizeKernels kQuantizeAvx512 = {
    {block4<kFromF32, Nf4>, block4<kFromF16, Nf4>, block4<kFromBF16, Nf4>},
    {block4<kFromF32, Fp4>, block4<kFromF16, Fp4>, block4<kFromBF16, Fp4>},
    {int8_row<kFromF32>, int8_row<kFromF16>, int8_row<kFromBF16>},
};

}  // namespace qtool
