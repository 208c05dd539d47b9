// The rotary embedding of a token's queries and keys. One formula for the kernel that rotates in place and
// for the attention that rotates as it reads: the same bits.
#pragma once

#include "cuda/attention.h"
#include "cuda/columns8.cuh"
#include "cuda/device_math.cuh"

namespace qtool::cuda {

// A column that turns together with `other`; for the first of the two, `sin` is negative.
__device__ __forceinline__ float turned(float own, float other, float cos, float sin) {
  return fmaf(own, cos, __fmul_rn(other, sin));
}

// How 8 columns of a head turn at one position. rotation.half is a multiple of 8.
struct Turn {
  float cos[8], sin[8];
  int partner = 0;  // columns away from those that these turn with
  bool turns, neighbours;

  __device__ __forceinline__ Turn(const Rotation& rotation, int position, int column)
      : turns(column < 2 * rotation.half), neighbours(rotation.neighbours) {
    if (!turns) return;
    const bool first = column < rotation.half;
    const std::int64_t row = static_cast<std::int64_t>(position) * rotation.half;
    if (neighbours) {
      const auto c = *reinterpret_cast<const Vec<float>*>(rotation.cos + row + column / 2);
      const auto s = *reinterpret_cast<const Vec<float>*>(rotation.sin + row + column / 2);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        cos[i] = c.values[i / 2];
        sin[i] = i % 2 == 0 ? -s.values[i / 2] : s.values[i / 2];
      }
      return;
    }
    partner = first ? rotation.half : -rotation.half;
    const std::int64_t at = row + (first ? column : column - rotation.half);
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      const auto c = *reinterpret_cast<const Vec<float>*>(rotation.cos + at + 4 * v);
      const auto s = *reinterpret_cast<const Vec<float>*>(rotation.sin + at + 4 * v);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        cos[4 * v + i] = c.values[i];
        sin[4 * v + i] = first ? -s.values[i] : s.values[i];
      }
    }
  }

  // The 8 columns at `from`, which lies within its head, turned.
  template <typename T>
  __device__ __forceinline__ void apply(const T* from, float (&out)[8]) const {
    Columns8<T>::load(from).widen(out);
    if (!turns) return;
    float own[8], other[8];
    Columns8<T>::load(from + partner).widen(other);
#pragma unroll
    for (int i = 0; i < 8; ++i) own[i] = out[i];
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = turned(own[i], neighbours ? own[i ^ 1] : other[i], cos[i], sin[i]);
  }
};

}  // namespace qtool::cuda
