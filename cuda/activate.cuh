// What happens to activations on their way into a product.
#pragma once

#include "core/model/spec.h"

namespace qtool::cuda {

__device__ __forceinline__ float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0f + expf(-x));
    case Activation::kGeluErf:
      return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * (x * x * x))));
    case Activation::kRelu:
      return x > 0.0f ? x : 0.0f;
    case Activation::kRelu2:
      return x > 0.0f ? x * x : 0.0f;
    case Activation::kQuickGelu:
      return x / (1.0f + expf(-1.702f * x));
  }
  return x;
}

// 2^14 over the largest power of two in `top`, and its inverse; 1 for zero,
// tiny or infinite tokens.
__device__ __forceinline__ float power_for(float top) {
  const int exponent = static_cast<int>(__float_as_uint(top) >> 23);
  if (exponent < 20 || exponent > 250) return 1.0f;
  return __uint_as_float(static_cast<unsigned>(127 + 14 + 127 - exponent) << 23);
}

}  // namespace qtool::cuda
