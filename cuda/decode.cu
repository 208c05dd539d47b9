// Attention of few tokens over long caches, at the speed of memory.
//
//   - Thread block (split, head block, row): the positions that a token sees are cut into equal splits so
//     that all multiprocessors read. kLanes lanes share a position, 8 columns each, and go through their own
//     positions with a softmax of their own; all groups of lanes meet at the end, in a fixed order.
//   - The last thread block of a head to arrive joins the splits, in a fixed order too.
//   - Query heads that share keys and values are computed together, up to kHeads at a time, so that each is
//     read once.
//   - A token whose key and value are still where the product left them (FreshTokens) brings them along: its
//     query and key turn on their way into registers, and one thread block files the pair in the cache.
//     Nothing else that such a step reads of the cache depends on the kernel before, so the first positions
//     are on their way while that one still runs.
#include <algorithm>

#include "cuda/attention.h"
#include "cuda/cache_view.cuh"
#include "cuda/columns8.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/rotary.cuh"
#include "cuda/scores.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kLeastOfSplit = 32;
// One token's products (one_token4.h) leave each multiprocessor room for one thread block of this kernel, and
// if that is all it asks for, the next product can start early too. Longer caches are worth more than that.
constexpr std::int64_t kMostBesideProducts = 4096;
constexpr std::int64_t kLeastBesideProducts = 64;  // of a split: fewer of them meet sooner

// Thread blocks on one multiprocessor, and positions that a group of lanes has asked for at a time: what
// registers allow. Six for a split of 48 positions: a token's first 192 are one round of reads.
constexpr int blocks_at_once(int heads) { return heads <= 2 ? 4 : 3; }
template <typename C>
constexpr int in_flight(int heads) {
  return heads == 1 && sizeof(C) == 2 ? 6 : 4;
}

bool beside_products(const AttentionProblem& p) { return p.rows == 1 && p.reach() <= kMostBesideProducts; }

// The first of 4, 2, 1 heads that share keys and values without leaving multiprocessors idle: half-filled
// ones lose more than reading twice.
int heads_at_once(const AttentionProblem& p) {
  const int group = p.heads / p.cache->kv_heads, dim = p.cache->head_dim;
  const std::int64_t most_blocks = p.rows * p.cache->kv_heads * ceil_div(p.reach(), 2 * kLeastOfSplit);
  if (p.isolated || p.q.dtype == DType::kF32 || most_blocks < 2 * p.multiprocessors) return 1;
  const bool four = !p.rule.shaped() && !beside_products(p) && (dim == 64 || dim == 128);
  if (four && group % 4 == 0) return 4;
  return group % 2 == 0 ? 2 : 1;
}

// How many pieces a cache is cut into.
int splits_for(const AttentionProblem& p) {
  if (p.isolated) return 1;
  const int heads = heads_at_once(p);
  const std::int64_t blocks = std::max<std::int64_t>(1, p.rows * (p.heads / heads));
  const bool beside = beside_products(p);
  const std::int64_t room = std::int64_t{p.multiprocessors} * (beside ? 1 : blocks_at_once(heads)),
                     least = beside ? kLeastBesideProducts : kLeastOfSplit,
                     most = std::max<std::int64_t>(1, p.reach() / least);
  return static_cast<int>(std::clamp<std::int64_t>(room / blocks, 1, most));
}

template <typename T, typename C>
struct Decode {
  const T* q;
  T* out;
  const T* k;  // FreshTokens', or null
  const T* v;
  Rotation rotation;
  CacheView<C> cache;
  int heads;
  unsigned sharing;  // heads that share keys and values
  ScoreRule rule;
  const Place2* places;
  float* partials;  // [row, head, split, dim + 2]: sums, largest score, total
  unsigned* arrived;
};

// Several softmaxes over the same columns become one: what a thread has of it.
template <int kColumns>
struct Joined {
  float top = -INFINITY, total = 0.0f, sum[kColumns] = {};

  static __device__ __forceinline__ int column(int c) { return static_cast<int>(threadIdx.x) + c * kThreads; }

  // of(i, c): the sum of softmax i in column c of `dim`; dim and dim + 1 are its top and total.
  template <typename Of>
  __device__ __forceinline__ void join(int count, int dim, const Of& of) {
#pragma unroll
    for (int i = 0; i < count; ++i) top = fmaxf(top, of(i, dim));
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float weight = shrink_to(of(i, dim), top);
      total += weight * of(i, dim + 1);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        if (column(c) < dim) sum[c] += weight * of(i, column(c));
    }
  }
};

// kDim: head_dim where it is known, and scores that are not shaped; 0: any multiple of 8 up to 8 * kLanes.
template <typename T, typename C, int kLanes, int kDim, int kHeads>
__global__ void __launch_bounds__(kThreads, blocks_at_once(kHeads))
    decode_kernel(const __grid_constant__ Decode<T, C> p) {
  constexpr int kGroups = kThreads / kLanes, kWidth = kLanes * 8, kInFlight = in_flight<C>(kHeads);
  constexpr int kColumns = (kWidth + kThreads - 1) / kThreads;  // that a thread joins at the end
  constexpr int kPitch = kWidth + 4;                            // columns, top, total
  __shared__ __align__(16) float own[kHeads][kGroups][kPitch];
  __shared__ bool last;
  let_successor_start();
  const bool shaped = kDim == 0 && p.rule.shaped();
  const CacheView<C>& cache = p.cache;
  const int dim = kDim ? kDim : cache.head_dim;
  const unsigned split = blockIdx.x, splits = gridDim.x;
  const unsigned head = blockIdx.y * kHeads, kv_head = head / p.sharing;
  const bool fresh = p.k != nullptr;
  if (!fresh) wait_for_predecessor();
  const std::int64_t row = blockIdx.z;
  const Place2 place = p.places[row];
  const int group = static_cast<int>(threadIdx.x) / kLanes,
            column = static_cast<int>(threadIdx.x) % kLanes * 8;
  const bool real = kWidth == kDim || column < dim;  // other lanes keep the shuffles company
  const std::int64_t base = cache.head(place.sequence, static_cast<int>(kv_head)) + (real ? column : 0);
  const std::int64_t query = (row * p.heads + head) * dim;
  const int seen = first_seen(p.rule, place.position), cached = place.position + (fresh ? 0 : 1);
  const unsigned round = splits * kGroups;
  const int share = static_cast<int>((static_cast<unsigned>(cached - seen) + round - 1) / round * kGroups);
  const int begin = seen + static_cast<int>(split) * share, end = min(begin + share, cached);

  Columns8<C> keys[kInFlight], values[kInFlight];
  const auto load = [&](int first) {
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const std::int64_t at = base + static_cast<std::int64_t>(min(first + j * kGroups, end - 1)) * dim;
      keys[j] = Columns8<C>::load(cache.keys + at);
      values[j] = Columns8<C>::load(cache.values + at);
    }
  };
  const auto over_lanes = [](float dot) {
    const unsigned mask =
        kLanes == 32 ? 0xffffffffu : ((1u << kLanes) - 1) << (threadIdx.x % 32 / kLanes * kLanes);
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) dot += __shfl_xor_sync(mask, dot, offset);
    return dot;
  };
  if (begin + group < end) load(begin + group);

  float mine[kHeads][8], sum[kHeads][8] = {}, top[kHeads], total[kHeads] = {}, slopes[kHeads];
  const float unit = shaped ? 1.0f : p.rule.scale * kLog2e;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    top[h] = -INFINITY;
    slopes[h] = shaped ? slope_of(p.rule, static_cast<int>(head) + h) : 0.0f;
  }
  if (fresh) {
    const Turn turn(p.rotation, place.position, real ? column : 0);
    wait_for_predecessor();
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      turn.apply(p.q + query + h * dim + (real ? column : 0), mine[h]);
#pragma unroll
      for (int i = 0; i < 8; ++i) mine[h][i] = real ? rounded<T>(mine[h][i]) * unit : 0.0f;
    }
    if (split == 0) {  // the token itself begins the first group's sums
      const std::int64_t at = (row * cache.kv_heads + kv_head) * dim + (real ? column : 0);
      float key[8], value[8];
      turn.apply(p.k + at, key);
      Columns8<T>::load(p.v + at).widen(value);
      const auto filed_key = Columns8<C>::rounded(key), filed_value = Columns8<C>::rounded(value);
      if (group == 0 && real && head == kv_head * p.sharing) {
        const std::int64_t to = base + static_cast<std::int64_t>(place.position) * dim;
        filed_key.store(cache.keys + to);
        filed_value.store(cache.values + to);
      }
      filed_key.widen(key);
      filed_value.widen(value);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) score = fmaf(mine[h][i], key[i], score);
        score = over_lanes(score);
        if (shaped) score = score_shaped_rarely(p.rule, slopes[h], score, place.position, place.position);
        if (group != 0) continue;
        top[h] = score;
        total[h] = 1.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[h][i] = value[i];
      }
    }
  } else {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      Columns8<T>::load(p.q + query + h * dim + (real ? column : 0)).widen(mine[h]);
#pragma unroll
      for (int i = 0; i < 8; ++i) mine[h][i] = real ? mine[h][i] * unit : 0.0f;
    }
  }

  int first = begin + group;
#pragma unroll 1
  while (first < end) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float scores[kInFlight], higher = top[h];
#pragma unroll
      for (int j = 0; j < kInFlight; ++j) {
        float key[8], dot = 0.0f;
        keys[j].widen(key);
#pragma unroll
        for (int i = 0; i < 8; ++i) dot = fmaf(mine[h][i], key[i], dot);
        scores[j] = over_lanes(dot);
      }
      if (shaped)
#pragma unroll
        for (int j = 0; j < kInFlight; ++j)
          scores[j] = score_shaped_rarely(p.rule, slopes[h], scores[j], first + j * kGroups, place.position);
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
        const float weight = power_of_2(scores[j] - higher);
        float value[8];
        values[j].widen(value);
        total[h] += weight;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[h][i] = fmaf(weight, value[i], sum[h][i]);
      }
      top[h] = higher;
    }
    first += kGroups * kInFlight;
    if (first < end) load(first);
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (column == 0) {
      own[h][group][kWidth] = top[h];
      own[h][group][kWidth + 1] = total[h];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) own[h][group][column + i] = sum[h][i];
  }
  __syncthreads();

  const auto finish = [&](int h, const Joined<kColumns>& all) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (all.column(c) < dim) p.out[query + h * dim + all.column(c)] = from_float<T>(all.sum[c] / all.total);
  };
  const auto partials_of = [&](int h, unsigned of) {
    return p.partials + ((row * p.heads + head + h) * splits + of) * (dim + 2);
  };
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    Joined<kColumns> all;
    all.join(kGroups, kWidth, [&](int g, int c) { return own[h][g][c]; });
    if (splits == 1) {
      finish(h, all);
      continue;
    }
    float* partials = partials_of(h, split);
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (all.column(c) < dim) partials[all.column(c)] = all.sum[c];
    if (threadIdx.x == 0) {
      partials[dim] = all.top;
      partials[dim + 1] = all.total;
    }
  }
  if (splits == 1) return;

  unsigned* arrived = p.arrived + row * gridDim.y + blockIdx.y;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(arrived, 1u) == splits - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    Joined<kColumns> all;
    all.join(static_cast<int>(splits), dim, [&](int s, int c) { return __ldcg(partials_of(h, s) + c); });
    finish(h, all);
  }
  if (threadIdx.x == 0) *arrived = 0;
}

template <typename T, typename C, int kLanes, int kDim, int kHeads>
void launch_decode(const AttentionProblem& p, cudaStream_t stream) {
  const Decode<T, C> problem{static_cast<const T*>(p.q.data),
                             static_cast<T*>(p.out.data),
                             static_cast<const T*>(p.fresh.k),
                             static_cast<const T*>(p.fresh.v),
                             p.fresh.rotation,
                             view_of<C>(*p.cache, p.layer),
                             p.heads,
                             static_cast<unsigned>(p.heads / p.cache->kv_heads),
                             p.rule,
                             p.places,
                             p.partials,
                             p.arrived};
  launch(decode_kernel<T, C, kLanes, kDim, kHeads>,
         {dim3(static_cast<unsigned>(splits_for(p)), static_cast<unsigned>(p.heads / kHeads),
               static_cast<unsigned>(p.rows)),
          kThreads},
         stream, "attention", problem);
}

// By head size; the sizes of most models are compiled in, with scores that are only scaled.
template <typename T, typename C, int kHeads>
void launch_size(const AttentionProblem& p, cudaStream_t stream) {
  const int dim = p.cache->head_dim;
  if constexpr (sizeof(T) == 2) {
    const bool scaled = !p.rule.shaped();
    if (scaled && dim == 64) return launch_decode<T, C, 8, 64, kHeads>(p, stream);
    if (scaled && dim == 128) return launch_decode<T, C, 16, 128, kHeads>(p, stream);
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
  return p.rows * p.heads * splits_for(p) * (p.cache->head_dim + 2);
}

bool takes_decode(const AttentionProblem& p) {
  constexpr std::int64_t kMostRows = 65535;  // of a grid's z
  const bool known = p.q.dtype == p.cache->dtype || p.q.dtype == DType::kF32;
  return known && p.rows <= kMostRows && p.cache->head_dim % 8 == 0;
}

bool takes_fresh(const AttentionProblem& p) { return takes_decode(p) && p.fresh.rotation.half % 8 == 0; }

void decode_attention(const AttentionProblem& p, cudaStream_t stream) {
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
}

}  // namespace qtool::cuda
