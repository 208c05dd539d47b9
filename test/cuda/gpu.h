// What the GPU's tests share: a skip that says why, and reproducible numbers.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdlib>
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

// Under compute-sanitizer a launch takes milliseconds: with QTOOL_GPU_TEST_EVERY=n, tests of many
// combinations run one in n of them. Where n is prime to the lengths of their loops, every value of each loop
// appears.
inline int one_in() {
  static const char* const text = std::getenv("QTOOL_GPU_TEST_EVERY");
  static const int every = text ? std::max(1, std::atoi(text)) : 1;
  return every;
}
inline bool left_out() {
  static int asked = 0;
  return asked++ % one_in() != 0;
}

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
