#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/rope_rows.h"
#include "cuda/rotary.cuh"
#include "cuda/scores.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// A thread rotates one pair, or copies one element that does not rotate; grid y
// counts q's, then k's and v's heads.
template <typename T, typename C>
__global__ void rope_kernel(T* q, T* k, const T* v, Rotation rotation, int heads, const Place2* places,
                            CacheView<C> cache) {
  join_stream();
  const std::int64_t row = blockIdx.x;
  const Place2 place = places[row];
  const int dim = cache.head_dim, head = static_cast<int>(blockIdx.y) - heads;
  T* from = head < 0 ? q + (row * heads + blockIdx.y) * dim : k + (row * cache.kv_heads + head) * dim;
  C* keys = nullptr;
  if (head >= 0) {
    const std::int64_t at =
        cache.head(place.sequence, head) + static_cast<std::int64_t>(place.position) * dim;
    keys = cache.keys + at;
    const T* values = v + (row * cache.kv_heads + head) * dim;
    for (int i = threadIdx.x; i < dim; i += blockDim.x)
      cache.values[at + i] = from_float<C>(to_float(values[i]));
  }
  const int half = rotation.half;
  for (int i = threadIdx.x; i < dim - half; i += blockDim.x) {
    if (i >= half) {  // beyond the rotated columns
      const int at = half + i;
      if (keys) keys[at] = from_float<C>(to_float(from[at]));
      continue;
    }
    const float c = rotation.cos[static_cast<std::int64_t>(place.position) * half + i];
    const float s = rotation.sin[static_cast<std::int64_t>(place.position) * half + i];
    const int first = rotation.neighbours ? 2 * i : i, second = rotation.neighbours ? 2 * i + 1 : i + half;
    const float a = to_float(from[first]), b = to_float(from[second]);
    const float turned_a = turned(a, b, c, -s), turned_b = turned(b, a, c, s);
    from[first] = from_float<T>(turned_a);
    from[second] = from_float<T>(turned_b);
    if (keys) {
      keys[first] = from_float<C>(turned_a);
      keys[second] = from_float<C>(turned_b);
    }
  }
}

// One warp a token and head: any type, any head size up to 256.
constexpr int kMaxPerLane = 8;
template <typename T, typename C>
__global__ void __launch_bounds__(kThreads)
    plain_kernel(const T* q, T* out, CacheView<C> cache, int heads, ScoreRule rule, const Place2* places,
                 std::int64_t rows) {
  join_stream();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= rows * heads) return;
  const int lane = static_cast<int>(threadIdx.x % 32), head = static_cast<int>(index % heads),
            dim = cache.head_dim;
  const Place2 place = places[index / heads];
  const std::int64_t base = cache.head(place.sequence, head / (heads / cache.kv_heads));
  float mine[kMaxPerLane], sums[kMaxPerLane] = {};
#pragma unroll
  for (int i = 0; i < kMaxPerLane; ++i)
    mine[i] = lane + 32 * i < dim ? to_float(q[index * dim + lane + 32 * i]) : 0.0f;
  float top = -INFINITY, total = 0.0f;
  const float slope = slope_of(rule, head);
  for (int position = first_seen(rule, place.position); position <= place.position; ++position) {
    const std::int64_t at = base + static_cast<std::int64_t>(position) * dim + lane;
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i)
      if (lane + 32 * i < dim) dot = fmaf(mine[i], to_float(cache.keys[at + 32 * i]), dot);
    const float score = shaped_score(rule, slope, warp_sum(dot), position, place.position);
    const float higher = fmaxf(top, score);
    const float shrink = shrink_to(top, higher), weight = exp2f(score - higher);
    top = higher;
    total = total * shrink + weight;
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i)
      if (lane + 32 * i < dim) sums[i] = fmaf(weight, to_float(cache.values[at + 32 * i]), sums[i] * shrink);
  }
#pragma unroll
  for (int i = 0; i < kMaxPerLane; ++i)
    if (lane + 32 * i < dim) out[index * dim + lane + 32 * i] = from_float<T>(sums[i] / total);
}

}  // namespace

Rotation rotation_of(const CudaRope* rope) {
  if (!rope) return {};
  return {rope->cos.as<float>(), rope->sin.as<float>(), rope->rotary_dim / 2,
          rope->pairs == RopePairs::kNeighbours};
}

void rope_append(Values q, Values k, Values v, const Rotation& rotation, int heads, const Place2* places,
                 std::int64_t rows, int layer, const CudaCache& cache, cudaStream_t stream) {
  if (rope_append_rows(q, k, v, rotation, heads, places, rows, layer, cache, stream)) return;
  with_type(q.dtype, [&](auto type) {
    with_type(cache.dtype, [&](auto cached) {
      using T = typename decltype(type)::Type;
      using C = typename decltype(cached)::Type;
      launch(rope_kernel<T, C>,
             {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(heads + cache.kv_heads)), 64}, stream,
             "rotary embedding", static_cast<T*>(q.data), static_cast<T*>(k.data),
             static_cast<const T*>(v.data), rotation, heads, places, view_of<C>(cache, layer));
    });
  });
}

void attention(const AttentionProblem& p, cudaStream_t stream) {
  if (!p.isolated && p.tile_count * 8 <= p.rows && prefill_attention(p, stream)) return;
  if (takes_decode(p)) return decode_attention(p, stream);
  with_type(p.q.dtype, [&](auto type) {
    with_type(p.cache->dtype, [&](auto cached) {
      using T = typename decltype(type)::Type;
      using C = typename decltype(cached)::Type;
      launch(plain_kernel<T, C>, {dim3(static_cast<unsigned>(ceil_div(p.rows * p.heads, kWarps))), kThreads},
             stream, "attention", static_cast<const T*>(p.q.data), static_cast<T*>(p.out.data),
             view_of<C>(*p.cache, p.layer), p.heads, p.rule, p.places, p.rows);
    });
  });
}

}  // namespace qtool::cuda
