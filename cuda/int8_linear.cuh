// The arithmetic behind an LLM.int8 product, shared by the kernels that end in
// one.
#pragma once

#include "core/dtype.h"
#include "cuda/device_math.cuh"

namespace qtool::cuda {

__device__ __forceinline__ float round_to(float value, DType type) {
  if (type == DType::kF16) return rounded<__half>(value);
  if (type == DType::kBF16) return rounded<__nv_bfloat16>(value);
  return value;
}

// An integer product as a float, plus `bias`, before it is rounded to half.
__device__ __forceinline__ float int8_scaled(int sum, float absmax, float row_absmax, float bias) {
  const float dequant = __uint_as_float(0x38820610u);  // bitsandbytes' 6.200012e-05, 1 / 127^2
  return fmaf(__fmul_rn(__fmul_rn(static_cast<float>(sum), absmax), row_absmax), dequant, bias);
}

// The float value of an integer product. A bias of half precision is added
// before the rounding to half, another type's after it.
__device__ __forceinline__ float int8_value(int sum, float absmax, float row_absmax, bool has_bias,
                                            float bias, DType type) {
  const bool fused = has_bias && type == DType::kF16;
  float value = rounded<__half>(int8_scaled(sum, absmax, row_absmax, fused ? bias : 0.0f));
  if (has_bias && !fused) value = rounded<__half>(value + bias);
  return round_to(value, type);
}
__device__ __forceinline__ float int8_value(int sum, float absmax, float row_absmax, const float* bias,
                                            DType type) {
  return int8_value(sum, absmax, row_absmax, bias != nullptr, bias ? *bias : 0.0f, type);
}

// Columns that some token has an outlier in.
struct OutlierView {
  const int* count;
  const int* columns;
  const void* x;  // [tokens, all_columns] of the layer's type
  int all_columns;
};

__device__ __forceinline__ float load_typed(const void* x, std::int64_t at, DType type) {
  if (type == DType::kF16) return __half2float(static_cast<const __half*>(x)[at]);
  if (type == DType::kBF16) return __bfloat162float(static_cast<const __nv_bfloat16*>(x)[at]);
  return static_cast<const float*>(x)[at];
}

// A code of an outlier's column as a value of the layer's type.
__device__ __forceinline__ float outlier_weight(float code, float row_absmax, DType type) {
  const float per_code = __uint_as_float(0x3c010204u);  // 1 / 127
  return round_to(__fmul_rn(__fmul_rn(code, row_absmax), per_code), type);
}

// value + sum over the outlier columns of x * weight in the layer's type
__device__ __forceinline__ float add_outliers(float value, const OutlierView& outliers,
                                              const std::int8_t* weight, std::int64_t row, float row_absmax,
                                              std::int64_t token, DType type) {
  const int count = *outliers.count;
  if (count == 0) return value;
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) {
    const int column = outliers.columns[i];
    const float code = static_cast<float>(weight[row * outliers.all_columns + column]);
    const float w = outlier_weight(code, row_absmax, type);
    sum = fmaf(load_typed(outliers.x, token * outliers.all_columns + column, type), w, sum);
  }
  return round_to(value + sum, type);
}

}  // namespace qtool::cuda
