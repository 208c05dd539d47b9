// What the GPU's tests share: a skip that says why, and reproducible numbers.
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/convert.h"
#include "core/quant/quantizer.h"
#include "core/tensor.h"
#include "cuda/cuda_backend.h"

#define SKIP_WITHOUT_GPU()                     \
  if (qtool::cuda_device_count() == 0) {       \
    WARN("skipped: " + qtool::cuda_absence()); \
    return;                                    \
  }

namespace qtool::test {

// Normally distributed values of `dtype`.
inline Tensor random_tensor(DType dtype, Shape shape, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(count_of(shape)));
  for (float& value : values) value = normal(generator);
  Tensor tensor(dtype, std::move(shape));
  from_float32(values.data(), tensor.count(), dtype, tensor.data());
  return tensor;
}

inline std::vector<float> floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.count()));
  to_float32(tensor.data(), tensor.dtype(), tensor.count(), values.data());
  return values;
}

inline Tensor copy_of(const Tensor& tensor) { return converted(tensor.view(), tensor.dtype()); }

}  // namespace qtool::test
