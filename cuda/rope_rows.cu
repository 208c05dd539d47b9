// Rotation and filing of many tokens: the same values as rope_append's plain kernel, 16 bytes at a time.
#include "cuda/cache_view.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/rope_rows.h"
#include "cuda/rotary.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWide = 8;  // values of 16 bytes

// The two pieces that a thread turns: columns that turn with each other, or one behind the other where
// neighbours do.
template <typename T>
struct Pair {
  using Piece = Vec<T, kWide>;
  Piece low, high;

  __device__ __forceinline__ Pair(const T* first, const T* second)
      : low(*reinterpret_cast<const Piece*>(first)), high(*reinterpret_cast<const Piece*>(second)) {}
  __device__ __forceinline__ void put(T* first, T* second) const {
    *reinterpret_cast<Piece*>(first) = low;
    *reinterpret_cast<Piece*>(second) = high;
  }
  static __device__ __forceinline__ void turn(T& a, T& b, float cos, float sin) {
    const float x = to_float(a), y = to_float(b);
    a = from_float<T>(turned(x, y, cos, -sin));
    b = from_float<T>(turned(y, x, cos, sin));
  }
  // cos and sin: of the first of 8 pairs.
  __device__ __forceinline__ void turn(const float* cos, const float* sin, bool neighbours) {
    float c[kWide], s[kWide];
#pragma unroll
    for (int v = 0; v < kWide / 4; ++v) {
      const auto four_c = *reinterpret_cast<const Vec<float>*>(cos + v * 4),
                 four_s = *reinterpret_cast<const Vec<float>*>(sin + v * 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        c[v * 4 + i] = four_c.values[i];
        s[v * 4 + i] = four_s.values[i];
      }
    }
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      if (!neighbours)
        turn(low.values[i], high.values[i], c[i], s[i]);
      else if (i < kWide / 2)
        turn(low.values[2 * i], low.values[2 * i + 1], c[i], s[i]);
      else
        turn(high.values[2 * i - kWide], high.values[2 * i - kWide + 1], c[i], s[i]);
  }
};

// A thread block has a token: its pairs of pieces of q and k, then the pieces of k that do not turn and of v.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rope_rows_kernel(T* q, T* k, const T* v, Rotation rotation, int heads, const Place2* places,
                     CacheView<T> cache) {
  join_stream();
  const std::int64_t row = blockIdx.x;
  const Place2 place = places[row];
  const int dim = cache.head_dim, half = rotation.half, kv_heads = cache.kv_heads;
  q += row * heads * dim;
  k += row * kv_heads * dim;
  v += row * kv_heads * dim;
  const std::int64_t position = static_cast<std::int64_t>(place.position) * dim;
  const auto filed_at = [&](int head) { return cache.head(place.sequence, head) + position; };
  const float* cos = rotation.cos + static_cast<std::int64_t>(place.position) * half;
  const float* sin = rotation.sin + static_cast<std::int64_t>(place.position) * half;

  const int pairs = half / kWide;
  const int step = rotation.neighbours ? kWide : half;
  for (int i = static_cast<int>(threadIdx.x); i < (heads + kv_heads) * pairs; i += kThreads) {
    const int index = i / pairs, pair = i % pairs * kWide, head = index - heads;
    const int column = rotation.neighbours ? 2 * pair : pair;
    T* from = (head < 0 ? q + index * dim : k + head * dim) + column;
    Pair<T> values(from, from + step);
    values.turn(cos + pair, sin + pair, rotation.neighbours);
    values.put(from, from + step);
    if (head < 0) continue;
    T* to = cache.keys + filed_at(head) + column;
    values.put(to, to + step);
  }
  using Piece = Vec<T, kWide>;
  const int still = (dim - 2 * half) / kWide, pieces = still + dim / kWide;
  for (int i = static_cast<int>(threadIdx.x); i < kv_heads * pieces; i += kThreads) {
    const int head = i / pieces, piece = i % pieces;
    const int column = piece < still ? 2 * half + piece * kWide : (piece - still) * kWide;
    const T* from = (piece < still ? k : v) + head * dim + column;
    T* to = (piece < still ? cache.keys : cache.values) + filed_at(head) + column;
    *reinterpret_cast<Piece*>(to) = *reinterpret_cast<const Piece*>(from);
  }
}

}  // namespace

bool rope_append_rows(Values q, Values k, Values v, const Rotation& rotation, int heads, const Place2* places,
                      std::int64_t rows, int layer, const CudaCache& cache, cudaStream_t stream) {
  constexpr std::int64_t kFewRows = 32;  // thread blocks of a token each do not fill the device
  if (rows < kFewRows || q.dtype != cache.dtype || q.dtype == DType::kF32 || cache.head_dim % kWide != 0 ||
      rotation.half % kWide != 0)
    return false;
  with_type(q.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    if constexpr (sizeof(T) == 2)
      launch(rope_rows_kernel<T>, {dim3(static_cast<unsigned>(rows)), kThreads}, stream, "rotary embedding",
             static_cast<T*>(q.data), static_cast<T*>(k.data), static_cast<const T*>(v.data), rotation, heads,
             places, view_of<T>(cache, layer));
  });
  return true;
}

}  // namespace qtool::cuda
