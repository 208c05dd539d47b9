// Attention of many tokens on the tensor cores, without ever storing the scores
// (Dao, "FlashAttention-2"): a thread block holds 64 queries of one head, 16 to
// a warp, and streams keys and values past them, 64 positions (32 of large
// heads) at a time and one step ahead. Steps that no query of the block sees
// are left out, at the window's side too. For devices that prefill_wgmma.cu does not take.
#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/mma16.cuh"
#include "cuda/prefill.h"
#include "cuda/scores.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kQueries = 64;  // of a thread block
constexpr int kParts = kQueryTile / kQueries;
constexpr int kLargeDim = 128;  // beyond it, queries wait in shared memory: the sums fill the registers

__device__ __forceinline__ void copy16(unsigned to, const void* from, bool real) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(real ? 16 : 0));
#endif
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(unsigned (&m)[4], unsigned at) {
#if __CUDA_ARCH__ >= 800
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(at));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(at));
#endif
}

template <typename T>
__device__ __forceinline__ unsigned pack(float low, float high) {
  Vec<T, 2> pair{{from_float<T>(low), from_float<T>(high)}};
  return *reinterpret_cast<unsigned*>(&pair);
}

__device__ __forceinline__ void end_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
__device__ __forceinline__ void await_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group 0;" ::: "memory");
#endif
}

// Rows of kDim values in shared memory, laid out so that 8 rows of one column of
// 16-byte chunks lie in different banks: chunks exchanged within a row, or, where
// a row is no whole number of banks' rounds, a chunk of nothing behind it.
template <int kDim>
struct Rows {
  static constexpr bool kExchanged = kDim % 64 == 0;
  static constexpr int kBytes = kDim * 2 + (kExchanged ? 0 : 16);
  static __device__ __forceinline__ unsigned chunk_at(unsigned base, int row, int chunk) {
    return base + static_cast<unsigned>(row * kBytes + ((kExchanged ? chunk ^ (row & 7) : chunk) << 4));
  }
};

template <int kDim>
struct Layout {
  static constexpr bool kQueriesShared = kDim > kLargeDim;
  static constexpr int kKeys = kDim > kLargeDim ? 32 : 64;  // positions of one step
  static constexpr int kTileBytes = kKeys * Rows<kDim>::kBytes;
  static constexpr int kQueryBytes = kQueriesShared ? kQueries * Rows<kDim>::kBytes : 0;
  static constexpr int kSharedBytes = 4 * kTileBytes + kQueryBytes;
  static constexpr int kBlocks = kDim > kLargeDim ? 2 : 3;  // on one multiprocessor: what registers allow
};

// kExact: heads have kDim columns; else any multiple of 8 up to it, the others
// are zeros. kShaped: scores are more than scaled.
template <typename T, int kDim, bool kExact, bool kShaped>
__global__ void __launch_bounds__(kThreads, Layout<kDim>::kBlocks)
    prefill_kernel(const T* q, T* out, CacheView<T> cache, int heads, ScoreRule rule,
                   const QueryTile* tiles) {
  extern __shared__ __align__(128) char memory[];
  using In = Rows<kDim>;
  constexpr int kKeys = Layout<kDim>::kKeys, kTileBytes = Layout<kDim>::kTileBytes;
  const auto shared = static_cast<unsigned>(__cvta_generic_to_shared(memory));
  const int dim = kExact ? kDim : cache.head_dim;
  join_stream();
  // The last tiles of a prompt see the most positions: they go first.
  const int index = static_cast<int>(gridDim.x - 1 - blockIdx.x), skipped = index % kParts * kQueries;
  QueryTile tile = tiles[index / kParts];
  if (tile.count <= skipped) return;
  tile = {tile.row + skipped, min(kQueries, tile.count - skipped), tile.sequence, tile.position + skipped};
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (heads / cache.kv_heads);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4, t = lane % 4;
  const T* keys = cache.keys + cache.head(tile.sequence, kv_head);
  const T* values = cache.values + cache.head(tile.sequence, kv_head);
  const T* queries = q + (static_cast<std::int64_t>(tile.row) * heads + head) * dim;
  const int end = tile.position + tile.count;  // positions that the last query sees
  const int first_step = first_seen(rule, tile.position) / kKeys, steps = (end + kKeys - 1) / kKeys;

  // Stage s: keys at 2s, values at 2s + 1.
  const auto fetch = [&](int step) {
    const int first = step * kKeys;
    const unsigned to = shared + static_cast<unsigned>(step % 2 * 2 * kTileBytes);
    for (int i = static_cast<int>(threadIdx.x); i < kKeys * kDim / 8; i += kThreads) {
      const int row = i / (kDim / 8), chunk = i % (kDim / 8);
      const bool real = first + row < end && (kExact || chunk * 8 < dim);
      const std::int64_t at = real ? static_cast<std::int64_t>(first + row) * dim + chunk * 8 : 0;
      copy16(In::chunk_at(to, row, chunk), keys + at, real);
      copy16(In::chunk_at(to + kTileBytes, row, chunk), values + at, real);
    }
  };

  const int rows[2] = {warp * 16 + g, warp * 16 + g + 8};
  const unsigned queries_at = shared + 4 * kTileBytes;
  unsigned query[Layout<kDim>::kQueriesShared ? 1 : kDim / 16][4];
  if constexpr (Layout<kDim>::kQueriesShared) {
    for (int i = static_cast<int>(threadIdx.x); i < kQueries * kDim / 8; i += kThreads) {
      const int row = i / (kDim / 8), chunk = i % (kDim / 8);
      const bool real = row < tile.count && (kExact || chunk * 8 < dim);
      const std::int64_t at = real ? static_cast<std::int64_t>(row) * heads * dim + chunk * 8 : 0;
      copy16(In::chunk_at(queries_at, row, chunk), queries + at, real);
    }
  }
  fetch(first_step);
  end_copies();
  if constexpr (!Layout<kDim>::kQueriesShared) {
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = rows[i % 2], column = k * 16 + i / 2 * 8 + t * 2;
        query[k][i] = row < tile.count && (kExact || column < dim)
                          ? *reinterpret_cast<const unsigned*>(
                                queries + static_cast<std::int64_t>(row) * heads * dim + column)
                          : 0u;
      }
  }

  float sums[kDim / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
  const float unit = rule.scale * kLog2e;
  const float slope = kShaped ? slope_of(rule, head) : 0.0f;
  for (int step = first_step; step < steps; ++step) {
    await_copies();
    __syncthreads();  // this step has arrived, and nobody reads the other stage
                      // any more
    if (step + 1 < steps) {
      fetch(step + 1);
      end_copies();
    }
    const unsigned key_at = shared + static_cast<unsigned>(step % 2 * 2 * kTileBytes),
                   value_at = key_at + kTileBytes;

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      if constexpr (Layout<kDim>::kQueriesShared)
        load_matrices<false>(query[0], In::chunk_at(queries_at, warp * 16 + lane % 16, k * 2 + lane / 16));
      const unsigned(&a)[4] = query[Layout<kDim>::kQueriesShared ? 0 : k];
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        unsigned b[4];
        load_matrices<false>(b,
                             In::chunk_at(key_at, n * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
        mma16<T>(scores[2 * n], a, b[0], b[1]);
        mma16<T>(scores[2 * n + 1], a, b[2], b[3]);
      }
    }

    // Whether some query does not see some position of this step.
    const bool masked = (step + 1) * kKeys > tile.position + 1 || step * kKeys < end - rule.window;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int last = tile.position + rows[side];  // position this query may still see
      float higher = top[side];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][side * 2 + i];
          const int position = step * kKeys + n * 8 + t * 2 + i;
          if constexpr (kShaped)
            score = shaped_score(rule, slope, score, position, last);
          else
            score *= unit;
          // Negative where the position lies ahead: larger than any window, as an unsigned number.
          if (masked && static_cast<unsigned>(last - position) >= static_cast<unsigned>(rule.window))
            score = -INFINITY;
          higher = fmaxf(higher, score);
        }
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 1));
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 2));
      const float shrink = shrink_to(top[side], higher);
      top[side] = higher;
      const float zero = higher == -INFINITY ? 0.0f : higher;  // nothing seen yet: all weights are 0
      total[side] *= shrink;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][side * 2 + i];
          score = exp2f(score - zero);
          total[side] += score;
        }
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        sums[n][side * 2] *= shrink;
        sums[n][side * 2 + 1] *= shrink;
      }
    }
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      const unsigned weights[4] = {pack<T>(scores[2 * k][0], scores[2 * k][1]),
                                   pack<T>(scores[2 * k][2], scores[2 * k][3]),
                                   pack<T>(scores[2 * k + 1][0], scores[2 * k + 1][1]),
                                   pack<T>(scores[2 * k + 1][2], scores[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        unsigned b[4];
        load_matrices<true>(b, In::chunk_at(value_at, k * 16 + lane % 16, n * 2 + lane / 16));
        mma16<T>(sums[2 * n], weights, b[0], b[1]);
        mma16<T>(sums[2 * n + 1], weights, b[2], b[3]);
      }
    }
  }

#pragma unroll
  for (int side = 0; side < 2; ++side) {
    float all = total[side];
    all += __shfl_xor_sync(0xffffffffu, all, 1);
    all += __shfl_xor_sync(0xffffffffu, all, 2);
    if (rows[side] >= tile.count) continue;
    T* to = out + (static_cast<std::int64_t>(tile.row + rows[side]) * heads + head) * dim + t * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n)
      if (kExact || n * 8 < dim)
        *reinterpret_cast<unsigned*>(to + n * 8) =
            pack<T>(sums[n][side * 2] / all, sums[n][side * 2 + 1] / all);
  }
}

template <typename T, int kDim, bool kExact, bool kShaped>
void launch_prefill(const AttentionProblem& p, cudaStream_t stream) {
  constexpr int kBytes = Layout<kDim>::kSharedBytes;
  auto* kernel = prefill_kernel<T, kDim, kExact, kShaped>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "asking for shared memory");
  launch(
      kernel,
      {dim3(static_cast<unsigned>(p.tile_count * kParts), static_cast<unsigned>(p.heads)), kThreads, kBytes},
      stream, "attention", static_cast<const T*>(p.q.data), static_cast<T*>(p.out.data),
      view_of<T>(*p.cache, p.layer), p.heads, p.rule, p.tiles);
}

// The sizes of most models, plainly scaled, are compiled in; others share kernels.
template <typename T>
void launch_size(const AttentionProblem& p, cudaStream_t stream) {
  const int dim = p.cache->head_dim;
  if (dim == 64 && !p.rule.shaped()) return launch_prefill<T, 64, true, false>(p, stream);
  if (dim == 128 && !p.rule.shaped()) return launch_prefill<T, 128, true, false>(p, stream);
  if (dim <= 64) return launch_prefill<T, 64, false, true>(p, stream);
  if (dim <= 96) return launch_prefill<T, 96, false, true>(p, stream);
  if (dim <= 128) return launch_prefill<T, 128, false, true>(p, stream);
  launch_prefill<T, 256, false, true>(p, stream);
}

}  // namespace

bool prefill_attention(const AttentionProblem& p, cudaStream_t stream) {
  if (p.capability < 80 || p.q.dtype == DType::kF32 || p.q.dtype != p.cache->dtype ||
      p.cache->head_dim % 8 != 0)
    return false;
  if (prefill_wgmma(p, stream)) return true;
  with_type(p.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    if constexpr (sizeof(T) == 2) launch_size<T>(p, stream);
  });
  return true;
}

}  // namespace qtool::cuda
