// Attention of many tokens on Hopper (Shah et al., "FlashAttention-3"): as prefill.cu, with the matrix units
// fed from shared memory by the copy engine.
//
//   - A thread block works through tiles of 128 queries of one head, one after the other, those that see most
//     positions first. One thread copies queries, keys and values; two warpgroups have 64 queries each.
//   - A warpgroup starts the scores of the next step before it weighs the values of this one, and computes
//     the weights of the next while the matrix units weigh the values. The warpgroups take turns at starting:
//     one computes weights while the matrix units work for the other.
//   - Steps go from the last positions to the first: what must be masked, and values of positions that do not
//     exist yet, come first.
#include <algorithm>

#include "cuda/cache_view.cuh"
#include "cuda/device.h"
#include "cuda/device_math.cuh"
#include "cuda/launch.cuh"
#include "cuda/prefill.h"
#include "cuda/prefill_work.cuh"
#include "cuda/scores.cuh"
#include "cuda/tensor_map.h"

namespace qtool::cuda {
namespace {

using namespace prefill;

template <typename T>
__device__ __forceinline__ unsigned pack(float low, float high) {
  if constexpr (__is_same(T, __half)) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&pair);
  }
}

// A warpgroup's 64 queries. A thread has two of them: rows g and g + 8 of its warp's 16, and of each the
// columns 8j + 2t and 8j + 2t + 1.
template <typename T, int kDim, bool kShaped>
struct Weigher {
  using L = Layout<kDim>;
  static constexpr int kKeys = L::kKeys;
  const Problem& p;
  unsigned shared;
  int group, row, column;  // of the thread's first query in the tile, first column
  float scores[kKeys / 2], sums[L::kSums][L::kColumns / 2], top[2], total[2], shrink[2];
  unsigned weights[kKeys / 16][4];

  __device__ __forceinline__ Weigher(const Problem& problem, unsigned memory, int warpgroup)
      : p(problem), shared(memory), group(warpgroup) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32 % 4;
    row = group * 64 + warp * 16 + lane / 4;
    column = lane % 4 * 2;
  }

  __device__ __forceinline__ void start_scores(int stage) {
    const unsigned queries = shared + static_cast<unsigned>(group * 64 * kRowBytes),
                   keys = shared + static_cast<unsigned>(L::kKeysAt + stage * L::kTileBytes);
    begin_products();
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k)
      multiply_shared<T>(scores, operand_at(queries + k / 4 * kQueryTile * kRowBytes) + k % 4 * 2,
                         operand_at(keys + k / 4 * kKeys * kRowBytes) + k % 4 * 2, k > 0);
    end_products();
  }

  __device__ __forceinline__ void start_sums(int stage) {
    const unsigned values = shared + static_cast<unsigned>(L::kValuesAt + stage * L::kTileBytes);
    begin_products();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
      for (int i = 0; i < L::kSums; ++i)
        multiply_transposed<T>(
            sums[i], weights[k],
            transposed_at(
                values + static_cast<unsigned>(i * L::kColumns / kPiece * kKeys + k * 16) * kRowBytes,
                kKeys * kRowBytes));
    end_products();
  }

  // shaped_score() of one query, from position `key` on.
  __device__ __forceinline__ void shape(int side, float slope, int key, int query) {
    const float cap = p.rule.softcap, unit = p.rule.scale * kLog2e;
    const auto each = [&](auto f) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) f(scores[n * 4 + side * 2 + i], static_cast<float>(n * 8 + i));
    };
    if (cap > 0.0f) {
      // tanh x = 1 - 2 / (e^2x + 1)
      const float twice = 2.0f * unit / cap, most = cap * kLog2e;
      each([&](float& score, float) {
        score = fmaf(-2.0f * most, reciprocal_ftz(power_of_2(score * twice) + 1.0f), most);
      });
    } else {
      each([&](float& score, float) { score *= unit; });
    }
    if (!p.rule.slopes) return;
    if (p.rule.slopes_bfloat16) {
      const auto from = static_cast<float>(key);
      each([&](float& score, float further) {
        score = fmaf(unit, rounded<__nv_bfloat16>(slope * rounded<__nv_bfloat16>(from + further)), score);
      });
    } else {
      const float steep = slope * kLog2e, from = steep * static_cast<float>(key - query);
      each([&](float& score, float further) { score += fmaf(steep, further, from); });
    }
  }

  // Scores become weights, relative to the largest score so far; `shrink` is for what was summed before.
  __device__ __forceinline__ void weigh(const Work& work, int step, float slope) {
    const int base = work.tile.position, first = step * kKeys;
    const int lowest = base + group * 64;  // position of this warpgroup's first query
    const bool masked = first + kKeys > lowest + 1 || first < lowest + 64 - p.rule.window;
    const float unit = kShaped ? 1.0f : p.rule.scale * kLog2e;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int last = base + row + side * 8;  // position this query may still see
      if constexpr (kShaped) shape(side, slope, first + column, last);
      if (masked)
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            // Negative where the position lies ahead: larger than any window, as an unsigned number.
            if (static_cast<unsigned>(last - (first + n * 8 + column + i)) >=
                static_cast<unsigned>(p.rule.window))
              scores[n * 4 + side * 2 + i] = -INFINITY;
      float higher = top[side];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
        higher = fmaxf(higher, fmaxf(scores[n * 4 + side * 2], scores[n * 4 + side * 2 + 1]));
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 1));
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 2));
      const float zero = higher == -INFINITY ? 0.0f : higher * unit;  // nothing seen yet: all weights are 0
      shrink[side] = power_of_2(top[side] * unit - zero);
      top[side] = higher;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n * 4 + side * 2 + i];
          score = power_of_2(fmaf(score, unit, -zero));
          sum += score;
        }
      total[side] = fmaf(total[side], shrink[side], sum);
    }
  }

  __device__ __forceinline__ void take_weights() {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[k][i] = pack<T>(scores[k * 8 + i * 2], scores[k * 8 + i * 2 + 1]);
  }

  __device__ __forceinline__ void shrink_sums() {
#pragma unroll
    for (int i = 0; i < L::kSums; ++i)
#pragma unroll
      for (int n = 0; n < L::kColumns / 2; ++n) sums[i][n] *= shrink[n / 2 % 2];
  }

  __device__ __forceinline__ void store(const Work& work) const {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      float all = total[side];
      all += __shfl_xor_sync(0xffffffffu, all, 1);
      all += __shfl_xor_sync(0xffffffffu, all, 2);
      if (row + side * 8 >= work.tile.count) continue;
      const float share = 1.0f / all;
      T* to = static_cast<T*>(p.out) +
              (static_cast<std::int64_t>(work.tile.row + row + side * 8) * p.heads + work.head) * p.head_dim +
              column;
#pragma unroll
      for (int i = 0; i < L::kSums; ++i)
#pragma unroll
        for (int n = 0; n < L::kColumns / 8; ++n)
          if (i * L::kColumns + n * 8 < p.head_dim)
            *reinterpret_cast<unsigned*>(to + i * L::kColumns + n * 8) =
                pack<T>(sums[i][n * 4 + side * 2] * share, sums[i][n * 4 + side * 2 + 1] * share);
    }
  }
};

// Weights of positions that do not exist yet are 0, but their values in the cache may be no numbers.
template <int kDim>
__device__ __forceinline__ void clear_values(unsigned shared, int stage, int first) {
  using L = Layout<kDim>;
  const unsigned values = shared + static_cast<unsigned>(L::kValuesAt + stage * L::kTileBytes);
  const int rows = L::kKeys - first, thread = static_cast<int>(threadIdx.x) - kWarpgroup;
  for (int i = thread; i < rows * L::kPieces * 8; i += kGroups * kWarpgroup) {
    const int piece = i / (rows * 8), at = i % (rows * 8);
    asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(
                     values + static_cast<unsigned>((piece * L::kKeys + first) * kRowBytes + at * 16)),
                 "r"(0)
                 : "memory");
  }
  publish_stores();
  synchronize(kZeros, kGroups * kWarpgroup);
}

template <typename T, int kDim, bool kShaped>
__device__ __forceinline__ void weigh_all(const Problem& p, unsigned shared, Barriers& barriers) {
  using L = Layout<kDim>;
  const int group = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  const bool speaks = threadIdx.x % 32 == 0;
  Weigher<T, kDim, kShaped> w(p, shared, group);
  Ring keys, values;
  Work work;
  unsigned item = 0;
  const auto await_full = [&](std::uint64_t(&both)[2][kStages], const Ring& ring) {
    await_phase(shared_address(&both[0][ring.stage]), ring.parity);
  };
  const auto release = [&](std::uint64_t(&both)[2][kStages], Ring& ring) {
    if (speaks) arrive(shared_address(&both[1][ring.stage]));
    ring.advance();
  };
  const auto begin_turn = [&] { synchronize(kTurn + group, kGroups * kWarpgroup); };
  const auto end_turn = [&] { announce(kTurn + (group ^ 1), kGroups * kWarpgroup); };
  if (group == 1) end_turn();  // the first warpgroup begins
  for (int n = 0; work_of<L::kKeys>(p, n, work); ++n) {
    if (work.steps == 0) continue;
    const float slope = kShaped ? slope_of(p.rule, work.head) : 0.0f;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      w.top[side] = -INFINITY;
      w.total[side] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < L::kSums; ++i)
#pragma unroll
      for (int c = 0; c < L::kColumns / 2; ++c) w.sums[i][c] = 0.0f;

    int step = work.steps - 1;
    await_phase(shared_address(&barriers.queries[0]), item++ % 2);
    await_full(barriers.keys, keys);
    begin_turn();
    w.start_scores(keys.stage);
    end_turn();
    await_products<0>(w.scores);
    release(barriers.keys, keys);
    w.weigh(work, step, slope);
    w.take_weights();
    if (const int beyond = work.end - step * L::kKeys; beyond < L::kKeys) {
      await_full(barriers.values, values);
      clear_values<kDim>(shared, values.stage, beyond);
    }
#pragma unroll 1
    while (--step >= work.first_step) {
      await_full(barriers.keys, keys);
      begin_turn();
      w.start_scores(keys.stage);
      await_full(barriers.values, values);
      w.start_sums(values.stage);
      end_turn();
      await_products<1>(w.scores);
      release(barriers.keys, keys);
      w.weigh(work, step, slope);
#pragma unroll
      for (int i = 0; i < L::kSums; ++i) await_products<0>(w.sums[i]);
      release(barriers.values, values);
      w.shrink_sums();
      w.take_weights();
    }
    if (speaks) arrive(shared_address(&barriers.queries[1]));
    await_full(barriers.values, values);
    w.start_sums(values.stage);
#pragma unroll
    for (int i = 0; i < L::kSums; ++i) await_products<0>(w.sums[i]);
    release(barriers.values, values);
    w.store(work);
  }
  if (group == 0) begin_turn();  // nobody leaves a turn behind
}

template <typename T, int kDim, bool kShaped>
__global__ void __launch_bounds__(kThreads, 1) prefill_kernel(const __grid_constant__ Problem p) {
#if QTOOL_HAS_WGMMA
  extern __shared__ char memory[];
  __shared__ Barriers barriers;
  const unsigned shared = shared_address(aligned(memory));
  let_successor_start();
  if (threadIdx.x == 0) {
    const auto make = [](std::uint64_t& full, std::uint64_t& empty) {
      make_barrier(shared_address(&full), 1);
      make_barrier(shared_address(&empty), kGroups * 4);  // a warp each
    };
    make(barriers.queries[0], barriers.queries[1]);
    for (int i = 0; i < kStages; ++i) {
      make(barriers.keys[0][i], barriers.keys[1][i]);
      make(barriers.values[0][i], barriers.values[1][i]);
    }
    publish_barriers();
  }
  __syncthreads();
  wait_for_predecessor();
  if (threadIdx.x < kWarpgroup) {
    give_registers<kCopyRegisters>();
    if (threadIdx.x == 0) copy_all<kDim>(p, shared, barriers);
  } else {
    take_registers<kProductRegisters>();
    weigh_all<T, kDim, kShaped>(p, shared, barriers);
  }
#endif
}

template <typename T, int kDim, bool kShaped>
void launch_prefill(const AttentionProblem& a, cudaStream_t stream) {
  using L = Layout<kDim>;
  const CudaCache& cache = *a.cache;
  const auto view = view_of<T>(cache, a.layer);
  Problem p;
  const std::int64_t query_sizes[] = {cache.head_dim, a.heads, a.rows},
                     cache_sizes[] = {cache.head_dim, cache.positions,
                                      std::int64_t{cache.sequences} * cache.kv_heads};
  const int query_box[] = {kPiece, 1, kQueryTile}, cache_box[] = {kPiece, L::kKeys, 1};
  p.queries = tensor_map(a.q.data, 2, query_sizes, query_box);
  p.keys = tensor_map(view.keys, 2, cache_sizes, cache_box);
  p.values = tensor_map(view.values, 2, cache_sizes, cache_box);
  p.out = a.out.data;
  p.rule = a.rule;
  p.tiles = a.tiles;
  p.tile_count = static_cast<int>(a.tile_count);
  p.heads = a.heads;
  p.kv_heads = cache.kv_heads;
  p.head_dim = cache.head_dim;
  auto* kernel = prefill_kernel<T, kDim, kShaped>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, L::kBytes),
        "asking for shared memory");
  const auto blocks = std::min<std::int64_t>(a.multiprocessors, a.tile_count * a.heads);
  launch(kernel, {dim3(static_cast<unsigned>(blocks)), kThreads, L::kBytes}, stream, "attention", p);
}

template <typename T>
void launch_size(const AttentionProblem& a, cudaStream_t stream) {
  const int dim = a.cache->head_dim;
  const bool shaped = a.rule.shaped() || a.rule.scale <= 0.0f;
  if (dim <= 64)
    return shaped ? launch_prefill<T, 64, true>(a, stream) : launch_prefill<T, 64, false>(a, stream);
  if (dim <= 128)
    return shaped ? launch_prefill<T, 128, true>(a, stream) : launch_prefill<T, 128, false>(a, stream);
  shaped ? launch_prefill<T, 256, true>(a, stream) : launch_prefill<T, 256, false>(a, stream);
}

}  // namespace

bool prefill_wgmma(const AttentionProblem& a, cudaStream_t stream) {
  if (!has_hopper_code(a.capability) || !has_tensor_maps()) return false;
  if (a.q.dtype == DType::kF16)
    launch_size<__half>(a, stream);
  else
    launch_size<__nv_bfloat16>(a, stream);
  return true;
}

}  // namespace qtool::cuda
