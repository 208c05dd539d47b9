// Float32 instructions spelled out: bitsandbytes is compiled with fast-math, so
// denormals are flushed ("ftz") and the reciprocal is the approximate one. The
// bytes of a checkpoint depend on it. And conversions between element types.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace qtool::cuda {

__device__ __forceinline__ float mul_ftz(float a, float b) {
  float out;
  asm("mul.rn.ftz.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
  return out;
}

// NaN operands are ignored.
__device__ __forceinline__ float max_ftz(float a, float b) {
  float out;
  asm("max.ftz.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
  return out;
}

__device__ __forceinline__ float reciprocal_ftz(float x) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }

template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == 4)
    return x;
  else if constexpr (__is_same(T, __half))
    return __float2half_rn(x);
  else
    return __float2bfloat16_rn(x);
}

template <typename T>
__device__ __forceinline__ float rounded(float x) {
  return to_float(from_float<T>(x));
}

// kSize consecutive values (16 bytes of them), moved at once; the address is a
// multiple of their size.
template <typename T, int kSize = 16 / sizeof(T)>
struct alignas(sizeof(T) * kSize) Vec {
  static constexpr int kCount = kSize;
  T values[kCount];
};

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// Over a thread block of kThreads; every thread gets the result. `scratch` is
// shared memory of this call alone, [kThreads / 32].
template <int kThreads>
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) x += scratch[warp];
  return x;
}

template <int kThreads>
__device__ __forceinline__ float block_max(float x, float* scratch) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = scratch[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) x = fmaxf(x, scratch[warp]);
  return x;
}

}  // namespace qtool::cuda
