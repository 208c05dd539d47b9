// How the sums of a wide8.cu tile become values: a warpgroup holds those of 64 tokens in registers.
#pragma once

#include "cuda/hopper8.cuh"
#include "cuda/int8_linear.cuh"

namespace qtool::cuda::wide8 {

constexpr int kWarpgroup = 128;
constexpr int kSlice = 64;                      // rows of a tile that become values at a time
constexpr int kDepth = 16;                      // outlier columns gathered at a time
constexpr int kScalesAt = 2 * kSlice * kDepth;  // floats behind those columns
template <typename T>
constexpr DType kTypeOf = __is_same(T, __half) ? DType::kF16 : DType::kBF16;

struct Part {
  CUtensorMap weight;
  const std::int8_t* codes;  // [out, columns]
  const float* row_absmax;   // [out]
  const float* bias;         // [out] or null
  void* y;                   // [tokens, out]
  int out;
  int tiles;  // of the rows of a cluster
};

struct Problem {
  CUtensorMap x;
  Part parts[3];
  int part_count;
  int tokens, columns;
  int steps;            // of kColumns
  int token_tiles;      // of the tokens of a cluster
  int row_tiles;        // of all parts
  const float* absmax;  // [tokens]
  float* residual;      // [tokens, out] or null
  OutlierView outliers;
};

// Shared memory that a warpgroup needs for it: outlier columns' weights and inputs; rows' scales and biases.
template <int kRows>
constexpr int kFinishBytes = (kScalesAt + 2 * kRows) * 4;

#if QTOOL_HAS_WGMMA
// What of a slice of kSlice rows and 64 tokens the outlier columns add: sums[4j + 2h + i] is of row 8j + 2t +
// i and token 16w + g + 8h. `memory` is the warpgroup's own.
template <typename T, int kCount>
__device__ __forceinline__ void sum_outliers(const Problem& p, const Part& part, int count, int first_row,
                                             int first_token, int warpgroup, float* memory,
                                             float (&sums)[kCount]) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  float *weights = memory, *inputs = memory + kDepth * kSlice;  // [kDepth][kSlice]
  const int row = min(first_row + thread % kSlice, part.out - 1);
  const int token = min(first_token + thread % kSlice, p.tokens - 1);
  const std::int8_t* codes = part.codes + static_cast<std::int64_t>(row) * p.columns;
  const T* x = static_cast<const T*>(p.outliers.x) + static_cast<std::int64_t>(token) * p.columns;
  const float row_absmax = part.row_absmax[row];
  for (int first = 0; first < count; first += kDepth) {
    const int depth = min(kDepth, count - first);
    synchronize(1 + warpgroup, kWarpgroup);  // the last columns have been read
    for (int i = thread / kSlice; i < depth; i += kWarpgroup / kSlice) {
      const int column = p.outliers.columns[first + i];
      weights[i * kSlice + thread % kSlice] =
          outlier_weight(static_cast<float>(codes[column]), row_absmax, kTypeOf<T>);
      inputs[i * kSlice + thread % kSlice] = to_float(x[column]);
    }
    synchronize(1 + warpgroup, kWarpgroup);
#pragma unroll 1
    for (int i = 0; i < depth; ++i) {
      const float* of = inputs + i * kSlice + warp * 16 + g;
      const float low = of[0], high = of[8];
#pragma unroll
      for (int j = 0; j < kCount / 4; ++j) {
        const float2 w = *reinterpret_cast<const float2*>(weights + i * kSlice + j * 8 + t * 2);
        sums[j * 4] = fmaf(low, w.x, sums[j * 4]);
        sums[j * 4 + 1] = fmaf(low, w.y, sums[j * 4 + 1]);
        sums[j * 4 + 2] = fmaf(high, w.x, sums[j * 4 + 2]);
        sums[j * 4 + 3] = fmaf(high, w.y, sums[j * 4 + 3]);
      }
    }
  }
}

// What a thread fetches of a tile's scales before the sums begin: for two rows, to be shared by its
// warpgroup, and for its own tokens.
struct TileScales {
  float2 row_absmax, bias;
  float absmax[2];
  int outliers;
};
template <int kRows>
__device__ __forceinline__ TileScales scales_of(const Problem& p, const Part& part, int first_row,
                                                int first_token) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const int row = first_row + thread * 2, token = first_token + thread / 32 * 16 + thread % 32 / 4;
  TileScales scales{};
  if (thread < kRows / 2 && row < part.out) {
    scales.row_absmax = *reinterpret_cast<const float2*>(part.row_absmax + row);
    if (part.bias) scales.bias = *reinterpret_cast<const float2*>(part.bias + row);
  }
  if (token < p.tokens) scales.absmax[0] = p.absmax[token];
  if (token + 8 < p.tokens) scales.absmax[1] = p.absmax[token + 8];
  scales.outliers = *p.outliers.count;
  return scales;
}

// Asks the L2 cache for a warpgroup's share of the residual, which its sums will be added to.
template <int kRows>
__device__ __forceinline__ void prefetch_residual(const Problem& p, int first_row, int first_token) {
  constexpr int kLine = 32, kLines = kRows / kLine;  // floats of a line; lines of a token
  for (int i = static_cast<int>(threadIdx.x) % kWarpgroup; i < 64 * kLines; i += kWarpgroup) {
    const int token = first_token + i / kLines, row = first_row + i % kLines * kLine;
    if (token < p.tokens && row < p.parts[0].out)
      prefetch_line(p.residual + static_cast<std::int64_t>(token) * p.parts[0].out + row);
  }
}

template <int kRows>
__device__ __forceinline__ void share_scales(const TileScales& scales, float* memory) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  auto* shared = reinterpret_cast<float2*>(memory + kScalesAt);
  if (thread >= kRows / 2) return;
  shared[thread] = scales.row_absmax;
  shared[kRows / 2 + thread] = scales.bias;
}

// Of four words of each of four neighbouring lanes, lane t gets the t-th of all.
__device__ __forceinline__ void transpose(unsigned (&words)[4]) {
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const bool upper = lane & bit;
      const unsigned got = __shfl_xor_sync(0xffffffffu, upper ? words[i] : words[i | bit], bit);
      (upper ? words[i] : words[i | bit]) = got;
    }
}

// Eight neighbours of a row, to memory; `sum` is what the residual holds there, if there is one.
template <typename T>
__device__ __forceinline__ void store_eight(const Problem& p, const Part& part, std::int64_t at,
                                            const unsigned (&words)[4], const float4 (&sum)[2]) {
  if (!p.residual) {
    *reinterpret_cast<uint4*>(static_cast<T*>(part.y) + at) = {words[0], words[1], words[2], words[3]};
    return;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const auto low = *reinterpret_cast<const Vec<T, 2>*>(&words[i * 2]);
    const auto high = *reinterpret_cast<const Vec<T, 2>*>(&words[i * 2 + 1]);
    reinterpret_cast<float4*>(p.residual + at)[i] = {
        sum[i].x + to_float(low.values[0]), sum[i].y + to_float(low.values[1]),
        sum[i].z + to_float(high.values[0]), sum[i].w + to_float(high.values[1])};
  }
}

// From the sums of a tile to values. kPlain: there is no bias and no outlier. A thread's pairs of neighbours
// are exchanged with those of three others for eight neighbours: stores of four bytes to eight tokens take as
// long as stores of sixteen.
template <typename T, int kRows, bool kPlain>
__device__ __forceinline__ void finish_tile(const Problem& p, const Part& part, int first_row,
                                            int first_token, int warpgroup, const TileScales& scales,
                                            float* memory, const int (&total)[kRows / 2]) {
  constexpr int kExchanged = 32;  // rows
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, t = thread % 4;
  const int token = first_token + thread / 32 * 16 + thread % 32 / 4;  // and 8 on
  const bool has_bias = part.bias != nullptr;
  const auto* row_absmax = reinterpret_cast<const float2*>(memory + kScalesAt) + t;
#pragma unroll
  for (int slice = 0; slice < kRows; slice += kSlice) {
    float extra[kPlain ? 1 : kSlice / 2] = {};
    if (!kPlain && scales.outliers > 0)
      sum_outliers<T>(p, part, scales.outliers, first_row + slice, first_token, warpgroup, memory, extra);
#pragma unroll
    for (int part_of_slice = 0; part_of_slice < kSlice; part_of_slice += kExchanged) {
      const int row = first_row + slice + part_of_slice + t * 8;
      const std::int64_t at = static_cast<std::int64_t>(token) * part.out + row;
      const bool real[2] = {row < part.out && token < p.tokens, row < part.out && token + 8 < p.tokens};
      float4 sum[2][2] = {};
      if (p.residual)
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            if (real[h])
              sum[h][i] =
                  reinterpret_cast<const float4*>(p.residual + at + std::int64_t{h * 8} * part.out)[i];
      unsigned words[2][4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int more = slice + part_of_slice + j * 8;  // and two rows from 2t
        const float2 of_rows = row_absmax[more / 2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int* sums = total + more / 2 + h * 2;
          float2 value;
          if constexpr (kPlain) {
            value =
                __half22float2(__floats2half2_rn(int8_scaled(sums[0], scales.absmax[h], of_rows.x, 0.0f),
                                                 int8_scaled(sums[1], scales.absmax[h], of_rows.y, 0.0f)));
          } else {
            const float2 biases = row_absmax[kRows / 2 + more / 2];
            value.x = int8_value(sums[0], scales.absmax[h], of_rows.x, has_bias, biases.x, kTypeOf<T>);
            value.y = int8_value(sums[1], scales.absmax[h], of_rows.y, has_bias, biases.y, kTypeOf<T>);
            if (scales.outliers > 0) {
              value.x += extra[(part_of_slice + j * 8) / 2 + h * 2];
              value.y += extra[(part_of_slice + j * 8) / 2 + h * 2 + 1];
            }
          }
          const Vec<T, 2> pair{from_float<T>(value.x), from_float<T>(value.y)};
          words[h][j] = *reinterpret_cast<const unsigned*>(&pair);
        }
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        transpose(words[h]);
        if (real[h]) store_eight<T>(p, part, at + std::int64_t{h * 8} * part.out, words[h], sum[h]);
      }
    }
  }
}
#endif

}  // namespace qtool::cuda::wide8
