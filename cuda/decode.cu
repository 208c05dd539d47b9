// Attention of few tokens over long caches, at the speed of memory.
//
// Thread block (split, head block, row): the positions that a token sees are cut into splits so that all
// multiprocessors read. kLanes lanes share a position, 8 columns each, and go through their own positions
// with a softmax of their own; all groups of lanes meet at the end, in a fixed order. The last thread block
// of a head to arrive joins the splits, in a fixed order too. Query heads that share keys and values are
// computed together, up to kHeads at a time, so that each is read once.
#include <algorithm>

#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/scores.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kInFlight = 4;  // positions that a group of lanes has asked for at a time
constexpr std::int64_t kLeastOfSplit = 64;

// The first of 4, 2, 1 heads that share keys and values without leaving multiprocessors idle: half-filled
// ones lose more than reading twice.
int heads_at_once(const AttentionProblem& p) {
  const int group = p.heads / p.cache->kv_heads, dim = p.cache->head_dim;
  const std::int64_t most_blocks = p.rows * p.cache->kv_heads * ceil_div(p.reach(), kLeastOfSplit);
  if (p.q.dtype == DType::kF32 || most_blocks < 2 * p.multiprocessors) return 1;
  if (group % 4 == 0 && (dim == 64 || dim == 128)) return 4;
  return group % 2 == 0 ? 2 : 1;
}

// How a cache is cut up.
struct Splits {
  int count;
  int positions;  // of each
};
Splits splits_for(const AttentionProblem& p) {
  const std::int64_t blocks = std::max<std::int64_t>(1, p.rows * (p.heads / heads_at_once(p)));
  const std::int64_t wanted = ceil_div(std::int64_t{p.multiprocessors} * 4, blocks);
  const std::int64_t count =
      std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, p.reach() / kLeastOfSplit));
  return {static_cast<int>(count), static_cast<int>(ceil_div(p.reach(), count))};
}

template <typename T, typename C>
struct Decode {
  const T* q;
  T* out;
  CacheView<C> cache;
  int heads;
  ScoreRule rule;
  bool shaped;
  const Place2* places;
  int positions_of_split;
  float* partials;  // [row, head, split, dim + 2]: sums, largest score, total
  unsigned* arrived;
};

// Thread blocks on one multiprocessor: what registers allow.
template <int kHeads>
constexpr int kBlocks = kHeads == 1   ? 8
                        : kHeads == 2 ? 4
                                      : 3;

// kDim: head_dim where it is known; 0: any multiple of 8 up to 8 * kLanes.
template <typename T, typename C, int kLanes, int kDim, int kHeads>
__global__ void __launch_bounds__(kThreads, kBlocks<kHeads>)
    decode_kernel(const __grid_constant__ Decode<T, C> p) {
  constexpr int kGroups = kThreads / kLanes, kWidth = kLanes * 8;
  constexpr int kColumns = (kWidth + kThreads - 1) / kThreads;  // that a thread joins at the end
  __shared__ float tops[kHeads][kGroups], totals[kHeads][kGroups], sums[kHeads][kGroups][kWidth];
  __shared__ bool last;
  join_stream();
  const CacheView<C>& cache = p.cache;
  const int dim = kDim ? kDim : cache.head_dim;
  const int split = static_cast<int>(blockIdx.x), splits = static_cast<int>(gridDim.x);
  const int head = static_cast<int>(blockIdx.y) * kHeads;
  const std::int64_t row = blockIdx.z;
  const Place2 place = p.places[row];
  const int group = static_cast<int>(threadIdx.x) / kLanes,
            column = static_cast<int>(threadIdx.x) % kLanes * 8;
  const bool real = kWidth == kDim || column < dim;  // other lanes keep the shuffles company
  const std::int64_t base =
      cache.head(place.sequence, head / (p.heads / cache.kv_heads)) + (real ? column : 0);
  const std::int64_t query = (row * p.heads + head) * dim;
  const int begin = first_seen(p.rule, place.position) + split * p.positions_of_split,
            end = min(begin + p.positions_of_split, place.position + 1);

  float mine[kHeads][8], sum[kHeads][8] = {}, top[kHeads], total[kHeads] = {}, slopes[kHeads];
  const float unit = p.shaped ? 1.0f : p.rule.scale * kLog2e;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    Vec<T, 8> raw{};
    if (real) raw = *reinterpret_cast<const Vec<T, 8>*>(p.q + query + h * dim + column);
#pragma unroll
    for (int i = 0; i < 8; ++i) mine[h][i] = to_float(raw.values[i]) * unit;
    top[h] = -INFINITY;
    slopes[h] = p.shaped ? slope_of(p.rule, head + h) : 0.0f;
  }

  for (int first = begin + group; first < end; first += kGroups * kInFlight) {
    Vec<C, 8> keys[kInFlight], values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const std::int64_t at = base + static_cast<std::int64_t>(min(first + j * kGroups, end - 1)) * dim;
      keys[j] = *reinterpret_cast<const Vec<C, 8>*>(cache.keys + at);
      values[j] = *reinterpret_cast<const Vec<C, 8>*>(cache.values + at);
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float scores[kInFlight], higher = top[h];
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        float dot = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) dot = fmaf(mine[h][i], to_float(keys[j].values[i]), dot);
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2) {
          const unsigned lane = threadIdx.x % 32,
                         mask = kLanes == 32 ? 0xffffffffu : ((1u << kLanes) - 1) << (lane / kLanes * kLanes);
          dot += __shfl_xor_sync(mask, dot, offset);
        }
        scores[j] = dot;
      }
      if (p.shaped)
#pragma unroll
        for (int j = 0; j < kInFlight; ++j)
          scores[j] = shaped_score(p.rule, slopes[h], scores[j], first + j * kGroups, place.position);
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        if (first + j * kGroups >= end) scores[j] = -INFINITY;
        higher = fmaxf(higher, scores[j]);
      }
      const float shrink = shrink_to(top[h], higher);
      total[h] *= shrink;
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[h][i] *= shrink;
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        const float weight = exp2f(scores[j] - higher);
        total[h] += weight;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[h][i] = fmaf(weight, to_float(values[j].values[i]), sum[h][i]);
      }
      top[h] = higher;
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (column == 0) {
      tops[h][group] = top[h];
      totals[h][group] = total[h];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[h][group][column + i] = sum[h][i];
  }
  __syncthreads();

  // A thread owns columns threadIdx.x, + kThreads from here on.
  const auto column_of = [](int c) { return static_cast<int>(threadIdx.x) + c * kThreads; };
  const auto partials_of = [&](int h, int of) {
    return p.partials + ((row * p.heads + head + h) * splits + of) * (dim + 2);
  };
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float all_top = -INFINITY, all_total = 0.0f, all_sum[kColumns] = {};
#pragma unroll
    for (int g = 0; g < kGroups; ++g) all_top = fmaxf(all_top, tops[h][g]);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const float weight = shrink_to(tops[h][g], all_top);
      all_total += weight * totals[h][g];
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        if (column_of(c) < dim) all_sum[c] += weight * sums[h][g][column_of(c)];
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (column_of(c) >= dim) continue;
      if (splits == 1)
        p.out[query + h * dim + column_of(c)] = from_float<T>(all_sum[c] / all_total);
      else
        partials_of(h, split)[column_of(c)] = all_sum[c];
    }
    if (splits > 1 && threadIdx.x == 0) {
      partials_of(h, split)[dim] = all_top;
      partials_of(h, split)[dim + 1] = all_total;
    }
  }
  if (splits == 1) return;

  unsigned* arrived = p.arrived + row * gridDim.y + blockIdx.y;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(arrived, 1u) == static_cast<unsigned>(splits) - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float all_top = -INFINITY, all_total = 0.0f, all_sum[kColumns] = {};
    for (int s = 0; s < splits; ++s) all_top = fmaxf(all_top, __ldcg(partials_of(h, s) + dim));
    for (int s = 0; s < splits; ++s) {
      const float weight = shrink_to(__ldcg(partials_of(h, s) + dim), all_top);
      all_total += weight * __ldcg(partials_of(h, s) + dim + 1);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        if (column_of(c) < dim) all_sum[c] += weight * __ldcg(partials_of(h, s) + column_of(c));
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (column_of(c) < dim) p.out[query + h * dim + column_of(c)] = from_float<T>(all_sum[c] / all_total);
  }
  if (threadIdx.x == 0) *arrived = 0;
}

template <typename T, typename C, int kLanes, int kDim, int kHeads>
void launch_decode(const AttentionProblem& p, cudaStream_t stream) {
  const Splits splits = splits_for(p);
  const Decode<T, C> problem{static_cast<const T*>(p.q.data),
                             static_cast<T*>(p.out.data),
                             view_of<C>(*p.cache, p.layer),
                             p.heads,
                             p.rule,
                             p.rule.shaped(),
                             p.places,
                             splits.positions,
                             p.partials,
                             p.arrived};
  launch(decode_kernel<T, C, kLanes, kDim, kHeads>,
         {dim3(static_cast<unsigned>(splits.count), static_cast<unsigned>(p.heads / kHeads),
               static_cast<unsigned>(p.rows)),
          kThreads},
         stream, "attention", problem);
}

// By head size; the sizes of most models are compiled in.
template <typename T, typename C, int kHeads>
void launch_size(const AttentionProblem& p, cudaStream_t stream) {
  const int dim = p.cache->head_dim;
  if constexpr (sizeof(T) == 2) {
    if (dim == 64) return launch_decode<T, C, 8, 64, kHeads>(p, stream);
    if (dim == 128) return launch_decode<T, C, 16, 128, kHeads>(p, stream);
  }
  if constexpr (kHeads <= 2) {
    if (dim <= 32) return launch_decode<T, C, 4, 0, kHeads>(p, stream);
    if (dim <= 64) return launch_decode<T, C, 8, 0, kHeads>(p, stream);
    if (dim <= 128) return launch_decode<T, C, 16, 0, kHeads>(p, stream);
    launch_decode<T, C, 32, 0, kHeads>(p, stream);
  }
}

}  // namespace

std::int64_t partial_floats(const AttentionProblem& p) {
  return p.rows * p.heads * splits_for(p).count * (p.cache->head_dim + 2);
}

bool decode_attention(const AttentionProblem& p, cudaStream_t stream) {
  constexpr std::int64_t kMostRows = 65535;  // of a grid's z
  const bool known = p.q.dtype == p.cache->dtype || p.q.dtype == DType::kF32;
  if (!known || p.rows > kMostRows || p.cache->head_dim % 8 != 0) return false;
  with_type(p.q.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if constexpr (sizeof(T) == 4) {
      with_type(p.cache->dtype,
                [&](auto cached) { launch_size<float, typename decltype(cached)::Type, 1>(p, stream); });
    } else {
      switch (heads_at_once(p)) {
        case 4:
          return launch_size<T, T, 4>(p, stream);
        case 2:
          return launch_size<T, T, 2>(p, stream);
        default:
          return launch_size<T, T, 1>(p, stream);
      }
    }
  });
  return true;
}

}  // namespace qtool::cuda
