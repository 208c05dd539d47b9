// The kernel behind small_linear.h, for any weight format.
//
// A thread block owns a range of row tiles (16 rows) and walks it kGroup tiles
// at a time; its 8 warps divide the columns, in units of 128. The weights are
// the A operand of mma.sync, 8 tokens the B operand: a tensor core instruction
// costs the same for 1 token as for 8. A lane copies into shared memory
// (cp.async) exactly the bytes that it will use itself, weights and inputs
// alike, so the warps need no barrier while they stream; kStages copies are in
// flight per warp, before the predecessor in the stream has finished too.
// Partial sums meet in shared memory in a fixed order, so that a token's result
// depends neither on the run nor on the other tokens.
//
// Which 16 columns of 64 a lane of the fragment owns is free, as long as
// weights and inputs agree: lane 4g + t owns row g (and g + 8) and columns
// 8t..8t+7 and 32+8t..32+8t+7 of 16-bit operands, 16t..16t+15 of 8-bit ones;
// each of its copies is 16 bytes, and four lanes together fill whole 32-byte
// sectors.
#pragma once

#include <algorithm>

#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/small_linear.h"

namespace qtool::cuda {

constexpr int kSmallWarps = 8;
constexpr int kSmallThreads = kSmallWarps * 32;
constexpr int kStages = 2;

__device__ __forceinline__ void copy16(unsigned to, const void* from, bool real) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(real ? 16 : 0));
#endif
}
__device__ __forceinline__ void copy4(unsigned to, const void* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from));
#endif
}
__device__ __forceinline__ void end_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kPending>
__device__ __forceinline__ void await_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}
// `bytes`, a multiple of 16, on their way into the L2 cache.
__device__ __forceinline__ void prefetch_l2(const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
#endif
}
__device__ __forceinline__ uint4 load_shared16(unsigned at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at));
  return v;
}
__device__ __forceinline__ uint2 load_shared8(unsigned at) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at));
  return v;
}

// Where a lane stands in its fragment.
struct Lane {
  int warp, lane, row, column;  // row g = lane / 4, column t = lane % 4
};

// Format, see small4.cu, small8.cu, small16.cu:
//   Sum                   float, or int where sums are exact
//   kWeightCopies         16-byte copies per lane, row tile and unit
//   kInputCopies          the same of 8 tokens; kInputElement bytes each input
//   kScaleBytes           per row tile and unit that travel with the weights, 0
//   or a multiple of 32 kUnitStride           bytes from one unit of a row tile
//   to the next, as a lane sees them kTableBytes           shared memory of the
//   thread block's own tables, filled by fill_tables weight_source, ... where a
//   lane's copies come from prefetch              asks for one warp's share of
//   a row tile, into the L2 cache multiply              adds one unit of a
//   group of row tiles to the sums finish                from the sum over all
//   warps to the value with its bias

// What an instance keeps in shared memory: tables | weights [warp][stage] |
// scales | inputs | sums.
template <class Format, int kGroup, int kTokenTiles>
struct SmallLayout {
  // Inputs of 32 tokens have one stage: they go on to registers before the next
  // unit's are asked for.
  static constexpr int kInputStages = kTokenTiles == 4 ? 1 : kStages;
  static constexpr int kWeightBytes = kGroup * Format::kWeightCopies * 512;  // of one stage of one warp
  static constexpr int kScaleBytes = kGroup * Format::kScaleBytes;

  static __host__ __device__ int token_lanes(int tokens) { return kTokenTiles > 1 ? 8 : tokens; }
  static __host__ __device__ int input_bytes(int tokens) {
    return kTokenTiles * Format::kInputCopies * token_lanes(tokens) * 64;
  }
  // Sums of up to 8 tokens have a place for every warp, twice, so that one
  // barrier per group of row tiles is enough. Of more tokens, warps w and w +
  // kSmallWarps / 2 share a place.
  static constexpr int kSumPlaces = kTokenTiles == 1 ? 2 * kSmallWarps : kSmallWarps / 2;
  static __host__ __device__ int sums_of_warp(int tokens) { return kGroup * kTileRows * tokens; }
  static __host__ __device__ int shared_bytes(int tokens) {
    return Format::kTableBytes +
           kSmallWarps * (kStages * (kWeightBytes + kScaleBytes) + kInputStages * input_bytes(tokens)) +
           kSumPlaces * sums_of_warp(tokens) * 4;
  }
};

// The part that row tile `tile` of all parts lies in; `tile` becomes its index
// there.
__device__ __forceinline__ const SmallPart& part_of(const SmallProblem& p, int& tile) {
  int i = 0;
#pragma unroll 1
  while (i + 1 < p.part_count && tile >= p.parts[i].row_tiles) tile -= p.parts[i++].row_tiles;
  return p.parts[i];
}

// Adds up the warps' sums of one group, always in the order (w0 + w4) + (w1 +
// w5) + ..., and stores the results. `parity` alternates from group to group.
template <class Format, int kGroup, int kTokenTiles>
__device__ __forceinline__ void finish_group(const SmallProblem& p, int group, int end_tile, int parity,
                                             const Lane& me,
                                             typename Format::Sum (&total)[kGroup][kTokenTiles][4],
                                             typename Format::Sum* sums) {
  using Sum = typename Format::Sum;
  constexpr int kHalf = kSmallWarps / 2;
  const int per_warp = SmallLayout<Format, kGroup, kTokenTiles>::sums_of_warp(p.tokens);
  const auto each = [&](int place, auto action) {
#pragma unroll
    for (int r = 0; r < kGroup; ++r)
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = n * 8 + 2 * me.column + i % 2, row = me.row + i / 2 * 8;
          if (token < p.tokens)
            action(total[r][n][i], sums[place * per_warp + (r * p.tokens + token) * kTileRows + row]);
        }
  };
  if constexpr (kTokenTiles == 1) {
    sums += parity * kSmallWarps * per_warp;
    each(me.warp, [](Sum mine, Sum& shared) { shared = mine; });
  } else {
    __syncthreads();  // the last group's sums have been read
    if (me.warp >= kHalf) each(me.warp - kHalf, [](Sum mine, Sum& shared) { shared = mine; });
    __syncthreads();
    if (me.warp < kHalf) each(me.warp, [](Sum mine, Sum& shared) { shared = mine + shared; });
  }
  __syncthreads();

  const int tiles = min(kGroup, end_tile - group);
  for (int i = threadIdx.x; i < tiles * p.tokens * kTileRows; i += kSmallThreads) {
    Sum sum{};
#pragma unroll
    for (int warp = 0; warp < kHalf; ++warp) {
      if constexpr (kTokenTiles == 1)
        sum += sums[warp * per_warp + i] + sums[(warp + kHalf) * per_warp + i];
      else
        sum += sums[warp * per_warp + i];
    }
    int tile = group + i / (p.tokens * kTileRows);
    const SmallPart& part = part_of(p, tile);
    const int token = i / kTileRows % p.tokens, row = tile * kTileRows + i % kTileRows;
    if (row >= part.out) continue;
    float value = Format::finish(p, part, sum, row, token);
    value = p.type == DType::kF16 ? rounded<__half>(value) : rounded<__nv_bfloat16>(value);
    const std::int64_t at = static_cast<std::int64_t>(token) * part.out + row;
    if (p.residual)
      p.residual[at] += value;
    else if (p.type == DType::kF16)
      static_cast<__half*>(part.y)[at] = __float2half_rn(value);
    else
      static_cast<__nv_bfloat16*>(part.y)[at] = __float2bfloat16_rn(value);
  }
}

template <class Format, int kGroup, int kTokenTiles>
__global__ void __launch_bounds__(kSmallThreads, kTokenTiles == 1 ? 2 : 1)
    small_linear_kernel(const __grid_constant__ SmallProblem p) {
  using Layout = SmallLayout<Format, kGroup, kTokenTiles>;
  extern __shared__ __align__(1024) char memory[];
  const Lane me{static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4), static_cast<int>(threadIdx.x % 4)};
  const int input_bytes = Layout::input_bytes(p.tokens);
  const int token_lanes = Layout::token_lanes(p.tokens);
  char* weights = memory + Format::kTableBytes;
  char* scales = weights + kSmallWarps * kStages * Layout::kWeightBytes;
  char* inputs = scales + kSmallWarps * kStages * Layout::kScaleBytes;
  auto* sums =
      reinterpret_cast<typename Format::Sum*>(inputs + kSmallWarps * Layout::kInputStages * input_bytes);
  const auto mine = [&](char* area, int bytes_of_warp, int lane_offset) {
    return static_cast<unsigned>(__cvta_generic_to_shared(area + me.warp * bytes_of_warp + lane_offset));
  };
  const unsigned my_weights = mine(weights, kStages * Layout::kWeightBytes, me.lane * 16);
  const unsigned my_scales = mine(scales, kStages * Layout::kScaleBytes, me.row * 16);
  const unsigned my_inputs = mine(inputs, Layout::kInputStages * input_bytes, (me.row * 4 + me.column) * 16);

  int all_tiles = 0;
  for (int i = 0; i < p.part_count; ++i) all_tiles += p.parts[i].row_tiles;
  const int first_tile = static_cast<int>(static_cast<std::int64_t>(blockIdx.x) * all_tiles / gridDim.x);
  const int end_tile = static_cast<int>((static_cast<std::int64_t>(blockIdx.x) + 1) * all_tiles / gridDim.x);
  const int first_unit = me.warp * p.units / kSmallWarps, end_unit = (me.warp + 1) * p.units / kSmallWarps;

  // The copying side: a cursor over groups and units, kStages steps ahead of
  // the computing side.
  int copy_group = end_unit > first_unit ? first_tile : end_tile, copy_unit = first_unit, copy_stage = 0;
  const char* source[kGroup];
  typename Format::ScaleSource scale_source[kGroup];
  const auto aim = [&] {
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      int tile = min(copy_group + r,
                     end_tile - 1);  // missing tiles of a group repeat the last: nobody reads them
      const SmallPart& part = part_of(p, tile);
      source[r] = Format::weight_source(p, part, tile, first_unit, me);
      scale_source[r] = Format::scale_source(p, part, tile, first_unit, me);
    }
  };
  const auto copy_weights = [&] {  // and move the cursor on
    if (copy_group >= end_tile) return;
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      Format::copy_weights(p, source[r],
                           my_weights + copy_stage * Layout::kWeightBytes + r * Format::kWeightCopies * 512,
                           copy_unit, me, scale_source[r]);
      source[r] += Format::kUnitStride;
      if constexpr (Format::kScaleBytes > 0)
        Format::copy_scales(p, scale_source[r],
                            my_scales + copy_stage * Layout::kScaleBytes + r * Format::kScaleBytes, copy_unit,
                            me);
    }
    copy_stage = (copy_stage + 1) % kStages;
    if (++copy_unit == end_unit) {
      copy_unit = first_unit;
      copy_group += kGroup;
      if (copy_group < end_tile) aim();
    }
  };
  const auto copy_inputs = [&](int unit, int stage) {
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      const int token = n * 8 + me.row;
      if (token >= p.tokens) continue;
      const auto* from = static_cast<const char*>(p.x) +
                         (token * p.x_stride + unit * kUnitColumns) * Format::kInputElement + me.column * 16;
      const unsigned to = my_inputs + stage * input_bytes + n * Format::kInputCopies * token_lanes * 64;
#pragma unroll
      for (int i = 0; i < Format::kInputCopies; ++i) copy16(to + i * token_lanes * 64, from + i * 64, true);
    }
  };
  const auto after = [&](int unit) { return unit + 1 < end_unit ? unit + 1 : first_unit; };
  const auto prefetch_group = [&](int group) {
    for (int r = 0; r < kGroup; ++r) {
      int tile = group + r;
      if (tile >= end_tile || end_unit == first_unit) return;
      const SmallPart& part = part_of(p, tile);
      Format::prefetch(p, part, tile, first_unit, end_unit - first_unit, me);
    }
  };

  let_successor_start();
  if (copy_group < end_tile) aim();
#pragma unroll
  for (int s = 0; s < kStages; ++s) copy_weights();
  end_copies();
  for (int ahead = 0; ahead < p.prefetch_groups; ++ahead) prefetch_group(first_tile + ahead * kGroup);
  Format::fill_tables(p, memory);
  wait_for_predecessor();
  if (end_unit > first_unit) {
    copy_inputs(first_unit, 0);
    for (int s = 1, unit = after(first_unit); s < Layout::kInputStages; ++s, unit = after(unit))
      copy_inputs(unit, s);
  }
  end_copies();
  await_copies<0>();
  __syncthreads();  // tables

  typename Format::State state(p, memory, me);
  int stage = 0;
  for (int group = first_tile, parity = 0; group < end_tile; group += kGroup, parity ^= 1) {
    typename Format::Sum total[kGroup][kTokenTiles][4] = {};
    float offsets[kGroup];
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      int tile = min(group + r, end_tile - 1);
      offsets[r] = part_of(p, tile).offset;
    }
    prefetch_group(group + p.prefetch_groups * kGroup);
    for (int unit = first_unit; unit < end_unit; ++unit) {
      // All but the last stage's copies have arrived: the lane's own, and, of scales, its neighbours'.
      await_copies<kStages - 1>();
      if constexpr (Format::kScaleBytes > 0) __syncwarp();
      const auto inputs_are_read = [&] {
        if constexpr (Layout::kInputStages == 1) {
          copy_inputs(after(unit), 0);
          end_copies();
        }
      };
      Format::template multiply<kGroup, kTokenTiles>(
          state, offsets, p, my_weights + stage * Layout::kWeightBytes,
          my_scales + stage * Layout::kScaleBytes,
          my_inputs + (Layout::kInputStages == 1 ? 0 : stage * input_bytes), token_lanes, me, inputs_are_read,
          total);
      if constexpr (Layout::kInputStages > 1) {
        int later = unit;
#pragma unroll
        for (int s = 0; s < kStages; ++s) later = after(later);
        copy_inputs(later, stage);
      }
      if constexpr (Format::kScaleBytes > 0) __syncwarp();  // the neighbours have read this stage's
      copy_weights();
      end_copies();
      stage = (stage + 1) % kStages;
    }
    finish_group<Format, kGroup, kTokenTiles>(p, group, end_tile, parity, me, total, sums);
  }
  await_copies<0>();
}

constexpr int kPrefetchBytes = 64 * 1024;  // per thread block: what the L2 cache fetches ahead of the streams

template <class Format, int kGroup, int kTokenTiles>
void launch_small_kernel(SmallProblem problem, int blocks_per_multiprocessor, cudaStream_t stream) {
  int tiles = 0;
  for (int i = 0; i < problem.part_count; ++i) tiles += problem.parts[i].row_tiles;
  problem.prefetch_groups = kPrefetchBytes / (kGroup * Format::kWeightCopies * 512 * problem.units);
  const int bytes = SmallLayout<Format, kGroup, kTokenTiles>::shared_bytes(problem.tokens);
  auto* kernel = small_linear_kernel<Format, kGroup, kTokenTiles>;
  static const bool allowed = [&] {
    const int most = SmallLayout<Format, kGroup, kTokenTiles>::shared_bytes(kTokenTiles * 8);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
          "asking for shared memory");
    return true;
  }();
  static_cast<void>(allowed);
  launch(kernel,
         {dim3(static_cast<unsigned>(std::min(tiles, problem.multiprocessors * blocks_per_multiprocessor))),
          kSmallThreads, bytes},
         stream, "a product with few tokens", problem);
}

// Tokens come in tiles of 8. One token alone moves so few inputs that a second
// thread block per multiprocessor, which hides latencies, costs nothing; with
// more, re-reading the inputs would.
template <class Format, int kGroup, int kWideGroup>
void launch_small_tokens(const SmallProblem& problem, cudaStream_t stream) {
  if (problem.tokens == 1)
    launch_small_kernel<Format, 1, 1>(problem, 2, stream);
  else if (problem.tokens <= 8)
    launch_small_kernel<Format, kGroup, 1>(problem, 1, stream);
  else if (problem.tokens <= 16)
    launch_small_kernel<Format, kWideGroup, 2>(problem, 1, stream);
  else
    launch_small_kernel<Format, kWideGroup, 4>(problem, 1, stream);
}

}  // namespace qtool::cuda
