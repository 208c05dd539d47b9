// Quantization with AVX2, FMA and F16C. Everything defined here is local to the file, see quantize_kernels.h.
//
// As in quantize_avx512.cpp values are taken as pairs, even and odd ones in registers of their own. The code
// is found by a binary search among the thresholds (SearchTree), all lanes in step: from its third level on,
// the thresholds of a level sit in one register and the bits found so far select among them.
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

__m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

__m128i folded(__m256i v) { return _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }

// Bits of the largest magnitude, in the source's own type: magnitudes compare like the integers that their
// bits are.
template <QuantizeSource kSource>
std::uint32_t largest_bits(const void* values, std::int64_t count) {  // count: multiple of 16
  __m256i largest = _mm256_setzero_si256();
  if constexpr (kSource == kFromF32) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const auto* at = static_cast<const std::uint32_t*>(values);
    for (std::int64_t i = 0; i < count; i += 8)
      largest = _mm256_max_epu32(largest, _mm256_and_si256(load(at + i), magnitude));
  } else {
    const __m256i magnitude = _mm256_set1_epi16(0x7fff);
    const auto* at = static_cast<const std::uint16_t*>(values);
    for (std::int64_t i = 0; i < count; i += 16)
      largest = _mm256_max_epu16(largest, _mm256_and_si256(load(at + i), magnitude));
    // Both halves of a 32-bit lane, widened, leave one kind of maximum to fold.
    largest = _mm256_max_epu32(_mm256_and_si256(largest, _mm256_set1_epi32(0xffff)),
                               _mm256_srli_epi32(largest, 16));
  }
  __m128i rest = folded(largest);
  rest = _mm_max_epu32(rest, _mm_shuffle_epi32(rest, 0x4e));
  rest = _mm_max_epu32(rest, _mm_shuffle_epi32(rest, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(rest));
}

// The lower halves of 32-bit lanes, as 8 halves in order.
__m128i narrowed(__m256i lanes) {
  const __m256i packed = _mm256_packus_epi32(lanes, lanes);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8));
}

template <QuantizeSource kSource>
__m256 widened(__m256i bits) {  // one value of the source's type in each 32-bit lane
  if constexpr (kSource == kFromF32) return _mm256_castsi256_ps(bits);
  if constexpr (kSource == kFromF16) return _mm256_cvtph_ps(narrowed(bits));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

// approximate_reciprocal of 8 normal values up to 2^126. core/quant/reciprocal.h explains the unit; its sum
// has 40 bits, of which c0's upper ones are set aside here, so that the rest is a positive 32-bit number to
// be subtracted.
__m256 reciprocals(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i exponent = _mm256_srli_epi32(bits, 23);
  const __m256i x = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff));
  const __m256i segment = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x7f));
  const __m256i row = _mm256_mullo_epi32(segment, _mm256_set1_epi32(3));
  const __m256i c0 = _mm256_i32gather_epi32(&kReciprocalSegments[0].c0, row, 4);
  const __m256i c1 = _mm256_i32gather_epi32(&kReciprocalSegments[0].c1, row, 4);
  const __m256i c2 = _mm256_i32gather_epi32(&kReciprocalSegments[0].c2, row, 4);

  __m256i square = _mm256_setzero_si256();
  for (int i = 1; i < 16; ++i) {
    const int first = i < 8 ? 16 - i : i + 1;
    const __m256i above = _mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(~0u << first)));
    const __m256i diagonal = _mm256_set1_epi32(i >= 9 ? static_cast<int>(1u << (2 * i)) : 0);
    const __m256i term = _mm256_add_epi32(_mm256_sll_epi32(above, _mm_cvtsi32_si128(i + 1)), diagonal);
    const __m256i bit = _mm256_set1_epi32(1 << i);
    const __m256i is_set = _mm256_cmpeq_epi32(_mm256_and_si256(x, bit), bit);
    square = _mm256_add_epi32(square, _mm256_and_si256(is_set, term));
  }
  square = _mm256_srli_epi32(square, 17);

  const __m256i fraction = _mm256_slli_epi32(_mm256_and_si256(c0, _mm256_set1_epi32(3)), 13);
  __m256i less = _mm256_sub_epi32(_mm256_mullo_epi32(c1, x), _mm256_mullo_epi32(c2, square));
  less =
      _mm256_add_epi32(_mm256_sub_epi32(less, fraction), _mm256_set1_epi32(2 * 32768 - 1 - kReciprocalBias));
  const __m256i whole = _mm256_add_epi32(_mm256_srli_epi32(c0, 2), _mm256_set1_epi32(1));
  const __m256i result = _mm256_sub_epi32(whole, _mm256_srli_epi32(less, 15));
  const __m256i scale = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_set1_epi32(252), exponent), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(result, scale));
}

struct Pairs {
  __m256 even, odd;
};

template <QuantizeSource kSource>
Pairs load_pairs(const void* values, std::int64_t first) {  // 16 values
  if constexpr (kSource == kFromF32) {
    const auto* at = static_cast<const float*>(values) + first;
    const __m256 low = _mm256_loadu_ps(at);
    const __m256 high = _mm256_loadu_ps(at + 8);
    // Within 128-bit lanes first: 0 1 8 9 | 4 5 12 13 in units of values' pairs; then the lanes' quarters
    // into order.
    const __m256 even = _mm256_shuffle_ps(low, high, 0x88);
    const __m256 odd = _mm256_shuffle_ps(low, high, 0xdd);
    return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8)),
            _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8))};
  } else {
    // A 32-bit lane holds a pair.
    const __m256i both = load(static_cast<const std::uint16_t*>(values) + first);
    if constexpr (kSource == kFromF16) {
      const __m256i low = _mm256_and_si256(both, _mm256_set1_epi32(0xffff));
      return {widened<kFromF16>(low), widened<kFromF16>(_mm256_srli_epi32(both, 16))};
    } else {
      const __m256i high = _mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
      return {widened<kFromBF16>(both), _mm256_castsi256_ps(high)};
    }
  }
}

// Lanes of -1 where threshold < value.
__m256i beyond(__m256 value, __m256 threshold) {
  return _mm256_castps_si256(_mm256_cmp_ps(threshold, value, _CMP_LT_OQ));
}

// rank * 2 + 1 where beyond, rank * 2 elsewhere.
__m256i descended(__m256i rank, __m256i beyond) {
  return _mm256_sub_epi32(_mm256_add_epi32(rank, rank), beyond);
}

struct TopOfTree {
  __m256 level0, level1_left, level1_right, level2;

  explicit TopOfTree(const SearchTree& tree)
      : level0(_mm256_set1_ps(tree.level0[0])),
        level1_left(_mm256_set1_ps(tree.level1[0])),
        level1_right(_mm256_set1_ps(tree.level1[1])),
        level2(_mm256_load_ps(tree.level2)) {}

  __m256i rank(__m256 scaled) const {  // 0..7
    const __m256i beyond0 = beyond(scaled, level0);
    const __m256 level1 = _mm256_blendv_ps(level1_left, level1_right, _mm256_castsi256_ps(beyond0));
    const __m256i rank1 =
        descended(_mm256_sub_epi32(_mm256_setzero_si256(), beyond0), beyond(scaled, level1));
    return descended(rank1, beyond(scaled, _mm256_permutevar8x32_ps(level2, rank1)));
  }
};

struct Nf4 {
  TopOfTree top{kNf4Tree};
  __m256 level3 = _mm256_load_ps(kNf4Tree.level3);

  __m256i codes(__m256 values, __m256 reciprocal) const {
    const __m256 scaled = _mm256_mul_ps(values, reciprocal);
    const __m256i rank = top.rank(scaled);
    return descended(rank, beyond(scaled, _mm256_permutevar8x32_ps(level3, rank)));
  }
};

struct Fp4 {
  TopOfTree top{kFp4Tree};
  __m256i code = _mm256_load_si256(reinterpret_cast<const __m256i*>(kFp4Tree.code));

  __m256i codes(__m256 values, __m256 reciprocal) const {
    const __m256 scaled = _mm256_mul_ps(values, reciprocal);
    const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), scaled);
    const __m256i unsigned_code = _mm256_permutevar8x32_epi32(code, top.rank(magnitude));
    // The GPU flushes denormals, before and after scaling, to a zero that is not negative.
    const __m256 least = _mm256_set1_ps(-0x1p-126f);
    const __m256 negative =
        _mm256_and_ps(_mm256_cmp_ps(values, least, _CMP_LE_OQ), _mm256_cmp_ps(scaled, least, _CMP_LE_OQ));
    return _mm256_or_si256(unsigned_code,
                           _mm256_and_si256(_mm256_castps_si256(negative), _mm256_set1_epi32(8)));
  }
};

// The packed bytes of 16 values, one in each 32-bit lane.
template <QuantizeSource kSource, class Code>
__m256i packed_bytes(const Code& book, const void* values, std::int64_t first, __m256 reciprocal) {
  const Pairs pairs = load_pairs<kSource>(values, first);
  return _mm256_or_si256(_mm256_slli_epi32(book.codes(pairs.even, reciprocal), 4),
                         book.codes(pairs.odd, reciprocal));
}

template <QuantizeSource kSource, class Code>
std::uint32_t block4(const void* values, int blocks, int block_size, std::uint8_t* packed, float* absmax) {
  constexpr std::int64_t kElementBytes = kSource == kFromF32 ? 4 : 2;
  const auto* bytes = static_cast<const unsigned char*>(values);

  alignas(32) std::uint32_t largest[kMaxKernelBlocks] = {};
  for (int b = 0; b < blocks; ++b)
    largest[b] = largest_bits<kSource>(bytes + b * block_size * kElementBytes, block_size);
  alignas(32) float all_absmax[kMaxKernelBlocks];
  alignas(32) float reciprocal[kMaxKernelBlocks];
  for (int b = 0; b < kMaxKernelBlocks; b += 8) {
    const __m256 eight = widened<kSource>(load(largest + b));
    _mm256_store_ps(all_absmax + b, eight);
    _mm256_store_ps(reciprocal + b, reciprocals(eight));
  }
  std::memcpy(absmax, all_absmax, static_cast<std::size_t>(blocks) * sizeof(float));

  const Code book;
  std::uint32_t special = 0;
  for (int b = 0; b < blocks; ++b) {
    std::uint32_t bits;
    std::memcpy(&bits, all_absmax + b, sizeof(bits));
    if (bits < kLowestBits || bits > kHighestBits) {
      special |= 1u << b;
      continue;
    }
    const __m256 r = _mm256_set1_ps(reciprocal[b]);
    const unsigned char* block = bytes + b * block_size * kElementBytes;
    std::uint8_t* out = packed + b * block_size / 2;
    for (int i = 0; i < block_size; i += 32) {
      const __m256i first = packed_bytes<kSource>(book, block, i, r);
      const __m256i second = packed_bytes<kSource>(book, block, i + 16, r);
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xd8);
      const __m128i sixteen =
          _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i / 2), sixteen);
    }
  }
  return special;
}

// 8 values, rounded through float16.
template <QuantizeSource kSource>
__m256 load_half_precision(const void* values, std::int64_t first) {
  if constexpr (kSource == kFromF32) {
    const __m256 wide = _mm256_loadu_ps(static_cast<const float*>(values) + first);
    return _mm256_cvtph_ps(_mm256_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  } else {
    const __m128i narrow =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const std::uint16_t*>(values) + first));
    if constexpr (kSource == kFromF16) return _mm256_cvtph_ps(narrow);
    const __m256 wide = widened<kFromBF16>(_mm256_cvtepu16_epi32(narrow));
    return _mm256_cvtph_ps(_mm256_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
}

// 16 codes; scaled values are within [-127, 127], so the saturation of the packing never acts.
template <QuantizeSource kSource>
__m128i int8_codes(const void* values, std::int64_t first, __m256 scale) {
  const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(load_half_precision<kSource>(values, first), scale));
  const __m256i high =
      _mm256_cvtps_epi32(_mm256_mul_ps(load_half_precision<kSource>(values, first + 8), scale));
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

template <QuantizeSource kSource>
bool int8_row(const void* values, std::int64_t count, std::int8_t* codes, float* absmax) {
  constexpr std::int64_t kElementBytes = kSource == kFromF32 ? 4 : 2;
  constexpr std::int64_t kStep = 16;
  const std::int64_t whole = count / kStep * kStep;
  const auto rest = static_cast<std::size_t>(count - whole);
  alignas(32) unsigned char tail[kStep * kElementBytes] = {};  // the last values, zeros behind them
  std::memcpy(tail, static_cast<const unsigned char*>(values) + whole * kElementBytes, rest * kElementBytes);

  const std::uint32_t body_largest = largest_bits<kSource>(values, whole);
  const std::uint32_t tail_largest = largest_bits<kSource>(tail, kStep);
  const __m256i largest =
      _mm256_set1_epi32(static_cast<int>(body_largest > tail_largest ? body_largest : tail_largest));
  // Rounding to float16 keeps the order, so the largest stays the largest.
  const __m128i half =
      _mm256_cvtps_ph(widened<kSource>(largest), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const float row_absmax = _mm_cvtss_f32(_mm_cvtph_ps(half));
  if (!(row_absmax > 0.0f && row_absmax < 0x1p16f)) return false;

  const __m256 scale = _mm256_set1_ps(127.0f * approximate_reciprocal(row_absmax));
  for (std::int64_t i = 0; i < whole; i += kStep)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), int8_codes<kSource>(values, i, scale));
  if (rest != 0) {
    alignas(16) std::int8_t last[kStep];
    _mm_store_si128(reinterpret_cast<__m128i*>(last), int8_codes<kSource>(tail, 0, scale));
    std::memcpy(codes + whole, last, rest);
  }
  *absmax = row_absmax;
  return true;
}

}  // namespace

const QuantizeKernels kQuantizeAvx2 = {
    {block4<kFromF32, Nf4>, block4<kFromF16, Nf4>, block4<kFromBF16, Nf4>},
    {block4<kFromF32, Fp4>, block4<kFromF16, Fp4>, block4<kFromBF16, Fp4>},
    {int8_row<kFromF32>, int8_row<kFromF16>, int8_row<kFromBF16>},
};

}  // namespace qtool
