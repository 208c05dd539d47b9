// The cache as kernels see it: element offsets of one layer.
#pragma once

#include "cuda/residents.h"

namespace qtool::cuda {

template <typename T>
struct CacheView {
  T* keys;
  T* values;
  int kv_heads;
  int head_dim;
  std::int64_t positions;

  // Of the first position of one head of one sequence.
  __device__ __forceinline__ std::int64_t head(int sequence, int kv_head) const {
    return (static_cast<std::int64_t>(sequence) * kv_heads + kv_head) * positions * head_dim;
  }
};

template <typename T>
CacheView<T> view_of(const CudaCache& cache, int layer) {
  const std::int64_t layer_at =
      std::int64_t{layer} * cache.sequences * cache.kv_heads * cache.positions * cache.head_dim;
  return {cache.keys.as<T>() + layer_at, cache.values.as<T>() + layer_at, cache.kv_heads, cache.head_dim,
          cache.positions};
}

}  // namespace qtool::cuda
