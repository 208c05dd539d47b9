// 8 consecutive columns as they lie in memory. Kept as the words that were loaded: a compiler that sees
// 16-bit elements takes a register for each.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace qtool::cuda {

template <typename T>
struct Columns8 {
  static constexpr int kWords = static_cast<int>(sizeof(T)) / 2;
  uint4 words[kWords];

  // `from`: a multiple of 8 columns into memory aligned to 16 bytes
  static __device__ __forceinline__ Columns8 load(const T* from) {
    Columns8 loaded;
#pragma unroll
    for (int i = 0; i < kWords; ++i) loaded.words[i] = reinterpret_cast<const uint4*>(from)[i];
    return loaded;
  }
  static __device__ __forceinline__ Columns8 rounded(const float (&values)[8]) {
    Columns8 made;
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
        made.words[i] = {__float_as_uint(values[4 * i]), __float_as_uint(values[4 * i + 1]),
                         __float_as_uint(values[4 * i + 2]), __float_as_uint(values[4 * i + 3])};
    } else {
      unsigned pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) pairs[i] = pair_of(values[2 * i], values[2 * i + 1]);
      made.words[0] = {pairs[0], pairs[1], pairs[2], pairs[3]};
    }
    return made;
  }
  __device__ __forceinline__ void store(T* to) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) reinterpret_cast<uint4*>(to)[i] = words[i];
  }
  __device__ __forceinline__ void widen(float (&values)[8]) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const unsigned own[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if constexpr (sizeof(T) == 4) {
          values[4 * i + j] = __uint_as_float(own[j]);
        } else {
          const float2 two = two_of(own[j]);
          values[2 * j] = two.x;
          values[2 * j + 1] = two.y;
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ unsigned pair_of(float low, float high) {
    if constexpr (__is_same(T, __half)) {
      const __half2 pair = __floats2half2_rn(low, high);
      return *reinterpret_cast<const unsigned*>(&pair);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
      return *reinterpret_cast<const unsigned*>(&pair);
    }
  }
  static __device__ __forceinline__ float2 two_of(unsigned pair) {
    if constexpr (__is_same(T, __half)) return __half22float2(*reinterpret_cast<const __half2*>(&pair));
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  }
};

}  // namespace qtool::cuda
