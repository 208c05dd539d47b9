#include <algorithm>

#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr float kLog2e = 1.4426950408889634f;

// A thread rotates one pair, or copies one element that does not rotate; grid y
// counts q's, then k's and v's heads.
template <typename T, typename C>
__global__ void rope_kernel(T* q, T* k, const T* v, const float* cos, const float* sin, int half, int heads,
                            const Place2* places, CacheView<C> cache) {
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
  for (int i = threadIdx.x; i < dim - half; i += blockDim.x) {
    if (i >= half) {  // beyond the rotated columns
      const int at = half + i;
      if (at < dim && keys) keys[at] = from_float<C>(to_float(from[at]));
      continue;
    }
    const float c = cos[static_cast<std::int64_t>(place.position) * half + i];
    const float s = sin[static_cast<std::int64_t>(place.position) * half + i];
    const float a = to_float(from[i]), b = to_float(from[i + half]);
    const float low = a * c - b * s, high = b * c + a * s;
    from[i] = from_float<T>(low);
    from[i + half] = from_float<T>(high);
    if (keys) {
      keys[i] = from_float<C>(low);
      keys[i + half] = from_float<C>(high);
    }
  }
}

// One warp a token and head: any type, any head size up to 256.
constexpr int kMaxPerLane = 8;
template <typename T, typename C>
__global__ void __launch_bounds__(kThreads)
    plain_kernel(const T* q, T* out, CacheView<C> cache, int heads, float scale, const Place2* places,
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
  for (int position = 0; position <= place.position; ++position) {
    const std::int64_t at = base + static_cast<std::int64_t>(position) * dim + lane;
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i)
      if (lane + 32 * i < dim) dot = fmaf(mine[i], to_float(cache.keys[at + 32 * i]), dot);
    const float score = scale * warp_sum(dot);
    const float higher = fmaxf(top, score);
    const float shrink = expf(top - higher), weight = expf(score - higher);
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

// --- decode: few tokens, long caches

constexpr int kInFlight = 4;  // positions that a group of lanes has asked for at a time

// How a cache is cut up so that all multiprocessors read it.
struct Splits {
  int count;
  int positions;  // of each
};
Splits splits_for(std::int64_t rows, int heads, std::int64_t longest, int multiprocessors) {
  constexpr std::int64_t kLeast = 64;
  const std::int64_t wanted =
      ceil_div(std::int64_t{multiprocessors} * 4, std::max<std::int64_t>(1, rows * heads));
  const std::int64_t count = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, longest / kLeast));
  return {static_cast<int>(count), static_cast<int>(ceil_div(longest, count))};
}

__device__ __forceinline__ float shrink_to(float from, float to) {
  return from == -INFINITY ? 0.0f : exp2f(from - to);
}

// Thread block (split, head, row). kDim / 8 lanes share a position, 8 columns
// each, and go through their own positions with their own softmax; all groups
// of lanes meet at the end. The last thread block of a head joins the splits.
template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const T* q, T* out, CacheView<T> cache, int heads, float scale, const Place2* places,
                  int positions_of_split, float* partials, unsigned* arrived) {
  constexpr int kLanes = kDim / 8, kGroups = kThreads / kLanes;
  __shared__ float tops[kGroups], totals[kGroups], sums[kGroups][kDim];
  __shared__ bool last;
  join_stream();
  const int split = static_cast<int>(blockIdx.x), splits = static_cast<int>(gridDim.x);
  const int head = static_cast<int>(blockIdx.y);
  const std::int64_t row = blockIdx.z;
  const Place2 place = places[row];
  const int group = static_cast<int>(threadIdx.x) / kLanes,
            column = static_cast<int>(threadIdx.x) % kLanes * 8;
  const std::int64_t base = cache.head(place.sequence, head / (heads / cache.kv_heads)) + column;
  const std::int64_t query = (row * heads + head) * kDim;
  const int begin = split * positions_of_split, end = min(begin + positions_of_split, place.position + 1);

  float mine[8], sum[8] = {}, top = -INFINITY, total = 0.0f;
  const auto raw = *reinterpret_cast<const Vec<T>*>(q + query + column);
#pragma unroll
  for (int i = 0; i < 8; ++i) mine[i] = to_float(raw.values[i]) * (scale * kLog2e);

  for (int first = begin + group; first < end; first += kGroups * kInFlight) {
    Vec<T> keys[kInFlight], values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int position = min(first + j * kGroups, end - 1);
      keys[j] =
          *reinterpret_cast<const Vec<T>*>(cache.keys + base + static_cast<std::int64_t>(position) * kDim);
      values[j] =
          *reinterpret_cast<const Vec<T>*>(cache.values + base + static_cast<std::int64_t>(position) * kDim);
    }
    float scores[kInFlight], higher = top;
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      float dot = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) dot = fmaf(mine[i], to_float(keys[j].values[i]), dot);
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) {
        const unsigned lane = threadIdx.x % 32,
                       mask = kLanes == 32 ? 0xffffffffu : ((1u << kLanes) - 1) << (lane / kLanes * kLanes);
        dot += __shfl_xor_sync(mask, dot, offset);
      }
      scores[j] = first + j * kGroups < end ? dot : -INFINITY;
      higher = fmaxf(higher, scores[j]);
    }
    const float shrink = shrink_to(top, higher);
    total *= shrink;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] *= shrink;
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const float weight = exp2f(scores[j] - higher);
      total += weight;
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] = fmaf(weight, to_float(values[j].values[i]), sum[i]);
    }
    top = higher;
  }
  if (column == 0) {
    tops[group] = top;
    totals[group] = total;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[group][column + i] = sum[i];
  __syncthreads();

  // Thread d < kDim owns column d from here on.
  const int d = static_cast<int>(threadIdx.x);
  float all_top = -INFINITY, all_total = 0.0f, all_sum = 0.0f;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) all_top = fmaxf(all_top, tops[g]);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const float weight = shrink_to(tops[g], all_top);
    all_total += weight * totals[g];
    if (d < kDim) all_sum += weight * sums[g][d];
  }
  if (splits == 1) {
    if (d < kDim) out[query + d] = from_float<T>(all_sum / all_total);
    return;
  }
  float* mine_partial = partials + ((row * heads + head) * splits + split) * (kDim + 2);
  if (d < kDim) mine_partial[d] = all_sum;
  if (d == 0) {
    mine_partial[kDim] = all_top;
    mine_partial[kDim + 1] = all_total;
  }
  __threadfence();
  __syncthreads();
  if (d == 0) last = atomicAdd(&arrived[row * heads + head], 1u) == static_cast<unsigned>(splits) - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  const float* parts = partials + (row * heads + head) * splits * (kDim + 2);
  all_top = -INFINITY;
  for (int s = 0; s < splits; ++s) all_top = fmaxf(all_top, __ldcg(parts + s * (kDim + 2) + kDim));
  all_total = all_sum = 0.0f;
  for (int s = 0; s < splits; ++s) {
    const float weight = shrink_to(__ldcg(parts + s * (kDim + 2) + kDim), all_top);
    all_total += weight * __ldcg(parts + s * (kDim + 2) + kDim + 1);
    if (d < kDim) all_sum += weight * __ldcg(parts + s * (kDim + 2) + d);
  }
  if (d < kDim) out[query + d] = from_float<T>(all_sum / all_total);
  if (d == 0) arrived[row * heads + head] = 0;
}

template <typename T, int kDim>
void launch_decode(const AttentionProblem& p, cudaStream_t stream) {
  const Splits splits = splits_for(p.rows, p.heads, p.longest, p.multiprocessors);
  launch(decode_kernel<T, kDim>,
         {dim3(static_cast<unsigned>(splits.count), static_cast<unsigned>(p.heads),
               static_cast<unsigned>(p.rows)),
          kThreads},
         stream, "attention", static_cast<const T*>(p.q.data), static_cast<T*>(p.out.data),
         view_of<T>(*p.cache, p.layer), p.heads, p.scale, p.places, splits.positions, p.partials, p.arrived);
}

}  // namespace

void rope_append(Values q, Values k, Values v, const CudaRope& rope, int heads, const Place2* places,
                 std::int64_t rows, int layer, CudaCache& cache, cudaStream_t stream) {
  with_type(q.dtype, [&](auto type) {
    with_type(cache.dtype, [&](auto cached) {
      using T = typename decltype(type)::Type;
      using C = typename decltype(cached)::Type;
      launch(rope_kernel<T, C>,
             {dim3(static_cast<unsigned>(rows), static_cast<unsigned>(heads + cache.kv_heads)), 64}, stream,
             "rotary embedding", static_cast<T*>(q.data), static_cast<T*>(k.data),
             static_cast<const T*>(v.data), rope.cos.as<float>(), rope.sin.as<float>(), rope.rotary_dim / 2,
             heads, places, view_of<C>(cache, layer));
    });
  });
}

std::int64_t partial_floats(std::int64_t rows, int heads, int head_dim, std::int64_t longest,
                            int multiprocessors) {
  return rows * heads * splits_for(rows, heads, longest, multiprocessors).count * (head_dim + 2);
}

void attention(const AttentionProblem& p, cudaStream_t stream) {
  const bool same = p.q.dtype == p.cache->dtype && p.q.dtype != DType::kF32;
  const int dim = p.cache->head_dim;
  if (same && p.tile_count * 8 <= p.rows && prefill_attention(p, stream)) return;
  if (same && p.rows <= 65535 && (dim == 64 || dim == 128)) {
    with_type(p.q.dtype, [&](auto tag) {
      using T = typename decltype(tag)::Type;
      if constexpr (sizeof(T) == 2)
        dim == 64 ? launch_decode<T, 64>(p, stream) : launch_decode<T, 128>(p, stream);
    });
    return;
  }
  with_type(p.q.dtype, [&](auto type) {
    with_type(p.cache->dtype, [&](auto cached) {
      using T = typename decltype(type)::Type;
      using C = typename decltype(cached)::Type;
      launch(plain_kernel<T, C>, {dim3(static_cast<unsigned>(ceil_div(p.rows * p.heads, kWarps))), kThreads},
             stream, "attention", static_cast<const T*>(p.q.data), static_cast<T*>(p.out.data),
             view_of<C>(*p.cache, p.layer), p.heads, p.scale, p.places, p.rows);
    });
  });
}

}  // namespace qtool::cuda
