// Attention of many tokens on the tensor cores, without ever storing the scores
// (Dao, "FlashAttention-2"): a thread block holds 64 queries of one head in
// registers, 16 to a warp, and streams keys and values past them, 64 positions
// at a time and one step ahead.
#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kKeys = 64;  // positions of one step
constexpr float kLog2e = 1.4426950408889634f;

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
__device__ __forceinline__ void mma16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  if constexpr (__is_same(T, __half))
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

template <typename T>
__device__ __forceinline__ unsigned pack(float low, float high) {
  Vec<T, 2> pair{{from_float<T>(low), from_float<T>(high)}};
  return *reinterpret_cast<unsigned*>(&pair);
}

// Rows of kDim values in shared memory, 16-byte chunks exchanged within a row
// so that 8 rows of one chunk column lie in different banks.
template <int kDim>
__device__ __forceinline__ unsigned chunk_at(unsigned base, int row, int chunk) {
  return base + static_cast<unsigned>(row * kDim * 2 + ((chunk ^ (row & 7)) << 4));
}

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads)
    prefill_kernel(const T* q, T* out, CacheView<T> cache, int heads, float scale, const QueryTile* tiles) {
  extern __shared__ __align__(128) char memory[];
  constexpr int kTileBytes = kKeys * kDim * 2;
  const auto shared = static_cast<unsigned>(__cvta_generic_to_shared(memory));
  join_stream();
  // The last tiles of a prompt see the most positions: they go first.
  const QueryTile tile = tiles[gridDim.x - 1 - blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (heads / cache.kv_heads);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4, t = lane % 4;
  const T* keys = cache.keys + cache.head(tile.sequence, kv_head);
  const T* values = cache.values + cache.head(tile.sequence, kv_head);
  const int end = tile.position + tile.count;  // positions that the last query sees

  // Stage s: keys at 2s, values at 2s + 1.
  const auto fetch = [&](int step) {
    const int first = step * kKeys;
    const unsigned to = shared + static_cast<unsigned>(step % 2 * 2 * kTileBytes);
    for (int i = static_cast<int>(threadIdx.x); i < kKeys * kDim / 8; i += kThreads) {
      const int row = i / (kDim / 8), chunk = i % (kDim / 8);
      const bool real = first + row < end;
      const std::int64_t at = real ? static_cast<std::int64_t>(first + row) * kDim + chunk * 8 : 0;
      copy16(chunk_at<kDim>(to, row, chunk), keys + at, real);
      copy16(chunk_at<kDim>(to + kTileBytes, row, chunk), values + at, real);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  fetch(0);

  unsigned query[kDim / 16][4];
  const int rows[2] = {warp * 16 + g, warp * 16 + g + 8};
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = rows[i % 2];
      query[k][i] = row < tile.count
                        ? *reinterpret_cast<const unsigned*>(
                              q + (static_cast<std::int64_t>(tile.row + row) * heads + head) * kDim + k * 16 +
                              i / 2 * 8 + t * 2)
                        : 0u;
    }

  float sums[kDim / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
  const float unit = scale * kLog2e;
  const int steps = (end + kKeys - 1) / kKeys;
  for (int step = 0; step < steps; ++step) {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();  // this step has arrived, and nobody reads the other stage
                      // any more
    if (step + 1 < steps) fetch(step + 1);
    const unsigned key_at = shared + static_cast<unsigned>(step % 2 * 2 * kTileBytes),
                   value_at = key_at + kTileBytes;

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k)
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        unsigned b[4];
        load_matrices<false>(b,
                             chunk_at<kDim>(key_at, n * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
        mma16<T>(scores[2 * n], query[k], b[0], b[1]);
        mma16<T>(scores[2 * n + 1], query[k], b[2], b[3]);
      }

    const bool masked = (step + 1) * kKeys > tile.position + 1;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int last = tile.position + rows[side];  // position this query may still see
      float higher = top[side];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][side * 2 + i];
          score *= unit;
          if (masked && step * kKeys + n * 8 + t * 2 + i > last) score = -INFINITY;
          higher = fmaxf(higher, score);
        }
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 1));
      higher = fmaxf(higher, __shfl_xor_sync(0xffffffffu, higher, 2));
      const float shrink = exp2f(top[side] - higher);  // position 0 is always seen: `higher` is finite
      top[side] = higher;
      total[side] *= shrink;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][side * 2 + i];
          score = exp2f(score - higher);
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
        load_matrices<true>(b, chunk_at<kDim>(value_at, k * 16 + lane % 16, n * 2 + lane / 16));
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
    T* to = out + (static_cast<std::int64_t>(tile.row + rows[side]) * heads + head) * kDim + t * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n)
      *reinterpret_cast<unsigned*>(to + n * 8) =
          pack<T>(sums[n][side * 2] / all, sums[n][side * 2 + 1] / all);
  }
}

template <typename T, int kDim>
void launch_prefill(const AttentionProblem& p, cudaStream_t stream) {
  constexpr int kBytes = 4 * kKeys * kDim * 2;
  auto* kernel = prefill_kernel<T, kDim>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "asking for shared memory");
  launch(kernel,
         {dim3(static_cast<unsigned>(p.tile_count), static_cast<unsigned>(p.heads)), kThreads, kBytes},
         stream, "attention", static_cast<const T*>(p.q.data), static_cast<T*>(p.out.data),
         view_of<T>(*p.cache, p.layer), p.heads, p.scale, p.tiles);
}

}  // namespace

bool prefill_attention(const AttentionProblem& p, cudaStream_t stream) {
  const int dim = p.cache->head_dim;
  if (dim != 64 && dim != 128) return false;
  with_type(p.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    if constexpr (sizeof(T) == 2)
      dim == 64 ? launch_prefill<T, 64>(p, stream) : launch_prefill<T, 128>(p, stream);
  });
  return true;
}

}  // namespace qtool::cuda
