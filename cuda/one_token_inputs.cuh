// The inputs of a product with one token, as every thread block of it makes them for itself: a norm, a gated
// product or plain values, rounded to the layer's type.
//
// The code is kept short: a kernel of a decode step finds its instructions evicted by the other kernels', and
// waits for every line of them.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/activate.cuh"
#include "cuda/device_math.cuh"
#include "cuda/pointwise.h"

namespace qtool::cuda {

constexpr int kTokenWarps = 8;
constexpr int kTokenThreads = kTokenWarps * 32;
// 4 values of half precision, or of bfloat16.
template <bool kHalf>
__device__ __forceinline__ float4 widened(uint2 raw) {
  if constexpr (kHalf) {
    const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&raw.x));
    const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&raw.y));
    return {a.x, a.y, b.x, b.y};
  }
  return {__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u), __uint_as_float(raw.y << 16),
          __uint_as_float(raw.y & 0xffff0000u)};
}

template <bool kHalf>
__device__ __forceinline__ uint2 narrowed(const float4& v) {
  uint2 raw;
  if constexpr (kHalf) {
    const __half2 pairs[2] = {__floats2half2_rn(v.x, v.y), __floats2half2_rn(v.z, v.w)};
    raw = *reinterpret_cast<const uint2*>(pairs);
  } else {
    const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
    raw = *reinterpret_cast<const uint2*>(pairs);
  }
  return raw;
}

__device__ __noinline__ inline float activate_rarely(float x, Activation activation) {
  return activate(x, activation);
}

// The final rounding to 16 bits leaves no trace of the fast exponential's last bits.
__device__ __forceinline__ float gated(float x, float up, Activation activation) {
  if (activation == Activation::kSilu) return __fdividef(x, 1.0f + __expf(-x)) * up;
  return activate_rarely(x, activation) * up;
}

// A thread's j-th vector of 4 columns.
__device__ __forceinline__ int token_column(int j) {
  return (static_cast<int>(threadIdx.x) + j * kTokenThreads) * 4;
}

__device__ __forceinline__ uint2 read_vector(const Values& values, int column) {
  return __ldcg(reinterpret_cast<const uint2*>(static_cast<const char*>(values.data) + column * 2));
}

__device__ __forceinline__ float largest(const float4& v) {
  return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

// A norm's weights, which depend on no predecessor: `bound` is at least as large as any normed value.
template <int kVectors>
struct NormWeights {
  uint2 raw[kVectors];
  float bound;
};
template <int kVectors>
__device__ __forceinline__ float4 norm_weight(const HalfInputs& in, const NormWeights<kVectors>& weights,
                                              int j) {
  const float4 w =
      in.weight.dtype == DType::kF16 ? widened<true>(weights.raw[j]) : widened<false>(weights.raw[j]);
  const float offset = in.weight_offset;
  return {w.x + offset, w.y + offset, w.z + offset, w.w + offset};
}
template <int kVectors>
__device__ __forceinline__ NormWeights<kVectors> load_norm(const HalfInputs& in, float* scratch) {
  NormWeights<kVectors> weights{};
#pragma unroll
  for (int j = 0; j < kVectors; ++j)
    if (token_column(j) < in.cols) weights.raw[j] = read_vector(in.weight, token_column(j));
  float top = 0.0f;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) top = fmaxf(top, largest(norm_weight(in, weights, j)));
  weights.bound = block_max<kTokenThreads>(top, scratch) * sqrtf(static_cast<float>(in.cols));
  return weights;
}

// Calls store(column, raw) with every vector of 4 normed values of the layer's type.
template <bool kHalf, int kVectors, typename Store>
__device__ __forceinline__ void norm_values(const HalfInputs& in, const NormWeights<kVectors>& weights,
                                            float* scratch, Store store) {
  float4 x[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    x[j] = {};
    if (token_column(j) < in.cols)
      x[j] = __ldcg(reinterpret_cast<const float4*>(static_cast<const float*>(in.x.data) + token_column(j)));
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kVectors; ++j)
    sum += x[j].x * x[j].x + x[j].y * x[j].y + x[j].z * x[j].z + x[j].w * x[j].w;
  const float factor =
      1.0f / sqrtf(block_sum<kTokenThreads>(sum, scratch) / static_cast<float>(in.cols) + in.eps);
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (token_column(j) >= in.padded) continue;
    const float4 w = norm_weight(in, weights, j);
    store(token_column(j), narrowed<kHalf>({w.x * (x[j].x * factor), w.y * (x[j].y * factor),
                                            w.z * (x[j].z * factor), w.w * (x[j].w * factor)}));
  }
}

// The same with plain or gated values. The loads of a few vectors are in flight while the ones before are
// computed.
template <bool kHalf, bool kGated, typename Store>
__device__ __forceinline__ void plain_values(const HalfInputs& in, Store store) {
  constexpr int kAtOnce = 4;
  uint2 x[kAtOnce], up[kAtOnce];
  const auto load = [&](int first) {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int column = token_column(first + j);
      x[j] = up[j] = {};
      if (column >= in.cols) continue;
      x[j] = read_vector(in.x, column);
      if (kGated) up[j] = read_vector(in.up, column);
    }
  };
  load(0);
#pragma unroll 1
  for (int first = 0; token_column(first) < in.padded; first += kAtOnce) {
    uint2 now[kAtOnce], now_up[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      now[j] = x[j];
      now_up[j] = up[j];
    }
    load(first + kAtOnce);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (token_column(first + j) >= in.padded) continue;
      if (kGated) {
        const float4 v = widened<kHalf>(now[j]), u = widened<kHalf>(now_up[j]);
        now[j] = narrowed<kHalf>({gated(v.x, u.x, in.activation), gated(v.y, u.y, in.activation),
                                  gated(v.z, u.z, in.activation), gated(v.w, u.w, in.activation)});
      }
      store(token_column(first + j), now[j]);
    }
  }
}

// Where inputs come from, and how many vectors of 4 inputs a thread holds in registers for a norm.
enum class Staging { kValues, kGated, kNorm4, kNorm8 };

constexpr bool takes_staging(const HalfInputs& inputs, std::int64_t most_columns) {
  if (inputs.source == Source::kNorm)
    return inputs.padded <= std::min<std::int64_t>(most_columns, 8 * kTokenThreads * 4) &&
           inputs.x.dtype == DType::kF32 && inputs.weight.dtype != DType::kF32;
  return inputs.padded <= most_columns && inputs.x.dtype == inputs.compute;
}

// Calls f with the Staging of `inputs` as a type.
template <typename F>
void with_staging(const HalfInputs& inputs, F f) {
  if (inputs.source == Source::kValues) return f(std::integral_constant<Staging, Staging::kValues>{});
  if (inputs.source == Source::kGated) return f(std::integral_constant<Staging, Staging::kGated>{});
  if (inputs.padded <= 4 * kTokenThreads * 4) return f(std::integral_constant<Staging, Staging::kNorm4>{});
  f(std::integral_constant<Staging, Staging::kNorm8>{});
}

// In two steps, before and after the predecessor in the stream has finished. `scratch` is shared memory of
// each step's own, [kTokenWarps].
template <Staging kStaging>
struct TokenInputs {
  static constexpr bool kNorm = false;
  __device__ __forceinline__ void prepare(const HalfInputs&, float*) {}
  template <bool kHalf, typename Store>
  __device__ __forceinline__ void each(const HalfInputs& in, float*, Store store) const {
    plain_values<kHalf, kStaging == Staging::kGated>(in, store);
  }
};
template <int kVectors>
struct NormInputs {
  static constexpr bool kNorm = true;
  NormWeights<kVectors> weights;
  __device__ __forceinline__ void prepare(const HalfInputs& in, float* scratch) {
    weights = load_norm<kVectors>(in, scratch);
  }
  template <bool kHalf, typename Store>
  __device__ __forceinline__ void each(const HalfInputs& in, float* scratch, Store store) const {
    norm_values<kHalf>(in, weights, scratch, store);
  }
};
template <>
struct TokenInputs<Staging::kNorm4> : NormInputs<4> {};
template <>
struct TokenInputs<Staging::kNorm8> : NormInputs<8> {};

}  // namespace qtool::cuda
