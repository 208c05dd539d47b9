// The inner loops of the CPU backend: what a file for one instruction set provides.
//
// Everything here is plain: pointers, counts and trivial structs, because files compiled for AVX must not
// share inline functions with the rest of the program (the linker could keep the AVX copy for a machine
// without AVX). All functions are pure but for their outputs, allocate nothing and throw nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace qtool::cpu {

// Up to so many tokens, a packed row is decoded in registers and multiplied at once ("direct" product). For
// more, a tile of rows is decoded into a scratch buffer that all tokens then share ("tiled" product).
inline constexpr int kDirectTokens = 8;
inline constexpr int kTileRows = 8;
inline constexpr int kTileDepth = 512;  // columns: 8 x 512 floats are 16 KB, a third of an L1 cache

// A 4-bit weight as kernels see it: the pieces of a checkpoint, untouched.
//   scale of block b    absmax[b], or nested: RN(RN(nested_map[codes[b]] * nested_absmax[b / 256]) +
//   nested_offset) value of element i  RN_compute(ftz(lut[code of i] * scale of block i / block_size)), as
//   bitsandbytes dequantizes
struct Block4Rows {
  std::int64_t out = 0;
  std::int64_t in = 0;
  int block_size = 64;
  const std::uint8_t* packed = nullptr;  // [ceil(out * in / 2)], element 2i in the high nibble of byte i
  const float* absmax = nullptr;         // [blocks]; null when nested
  const std::uint8_t* absmax_codes = nullptr;  // [blocks], nested only
  const float* nested_absmax = nullptr;        // [ceil(blocks / 256)]
  const float* nested_map = nullptr;           // [256]
  float nested_offset = 0.0f;
  float lut[16] = {};           // the codebook
  DType compute = DType::kF32;  // what a value is rounded to
};

// A direct product with a packed 4-bit weight.
struct Direct4Functions {
  bool (*takes)(const Block4Rows& weight);
  std::int64_t least_tokens, most_tokens;  // for others, another product is faster
  std::int64_t pass_tokens;                // to be given at a time
  bool rounds_weights;  // to weight.compute, as bitsandbytes does; else their exact values are multiplied
  // Tokens [first, end) of a pass of `tokens`, already rounded to weight.compute, in the order in which the
  // kernel meets the codes. x [tokens, in], out at least as many floats; `first` is a multiple of 16, `end`
  // too or all tokens.
  void (*pack)(const Block4Rows& weight, const float* x, std::int64_t tokens, std::int64_t first,
               std::int64_t end, float* out);
  // out[t * out_stride + r] = dot(row r, token t) for row_begin <= r < row_end, t < tokens; x: packed.
  void (*multiply)(const Block4Rows& weight, std::int64_t row_begin, std::int64_t row_end, const float* x,
                   std::int64_t tokens, float* out, std::int64_t out_stride);
};

struct KernelFunctions {
  // --- conversions
  // values[i] = RN_dtype(values[i]) in place; float32 is left alone.
  void (*round)(float* values, std::int64_t count, DType dtype);
  // F32, F16 or BF16 to float32, exactly.
  void (*widen)(const std::byte* in, DType from, std::int64_t count, float* out);
  // Elements [first, first + count) of the flattened matrix.
  void (*decode4)(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out);

  // --- products; sums in float32, in an order that depends on the shape alone
  // sums[t] += sum over k < count of w[k] * x[t * x_stride + k], t < tokens <= kDirectTokens
  void (*dot)(const float* w, const float* x, std::int64_t x_stride, int tokens, std::int64_t count,
              float* sums);
  // The tiled product: `lanes` tokens side by side, so that one weight meets a whole register of tokens.
  //   sums[r * sums_stride + g * lanes + t] += sum over k < count of w[r * kTileDepth + k] * x[g * x_stride +
  //   k * lanes + t]
  // for r < rows <= kTileRows, g < groups, t < lanes.
  int lanes;
  void (*multiply)(const float* w, int rows, const float* x, std::int64_t x_stride, std::int64_t groups,
                   std::int64_t count, float* sums, std::int64_t sums_stride);

  // Direct products with a packed weight: the first that takes it is used. Null ends the list.
  const Direct4Functions* direct4[2];

  // --- LLM.int8, exact: sums[t * sums_stride + r] = sum over k < count of w[r * count + k] * x[t * count +
  // k]
  void (*dot8)(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t tokens,
               std::int64_t count, std::int32_t* sums, std::int64_t sums_stride);

  // --- attention, on float32 rows of `dim` columns
  // scores[q * scores_stride + p] = scale * dot(queries[q], keys[p])
  void (*scores)(const float* queries, int query_count, const float* keys, int positions, int dim,
                 float scale, float* scores, int scores_stride);
  // out[q * dim + d] += sum over p, in order, of weights[q * weights_stride + p] * values[p * dim + d]
  void (*weighted_sum)(const float* weights, int weights_stride, int query_count, const float* values,
                       int positions, int dim, float* out);
};

// Defined by the files named after them.
extern const KernelFunctions kPortableFunctions;
extern const KernelFunctions kAvx2Functions;
extern const KernelFunctions kAvx512Functions;
extern const Direct4Functions kAvx512Direct4;
extern const Direct4Functions kAmxDirect4;  // AVX-512, AVX512_BF16, AMX_TILE and AMX_BF16
extern const Direct4Functions kAvx2Direct4;
void decode4_avx2(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out);
void decode4_avx512(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out);
void dot8_avx512(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t tokens,
                 std::int64_t count, std::int32_t* sums, std::int64_t sums_stride);

}  // namespace qtool::cpu
