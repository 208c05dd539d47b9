// Two backends side by side: the same operations on the same values, and how far apart the results are.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "test/cuda/gpu.h"

namespace qtool::test {

// One backend's side of a comparison.
struct Side {
  std::unique_ptr<Backend> backend;

  std::unique_ptr<Backend::Array> array(const Tensor& values) const {
    const auto table = backend->make_table(copy_of(values));
    std::vector<std::int32_t> ids(static_cast<std::size_t>(values.shape()[0]));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
    auto made = backend->make_array(values.shape()[0], values.shape()[1]);
    backend->embed(*table, ids, *made);
    return made;
  }
  // Values of `type`, as a linear layer leaves them: the CPU's arrays are float32 whatever they hold, the
  // GPU's take the type from a product with an identity matrix.
  std::unique_ptr<Backend::Array> typed(const Tensor& values, DType type) const {
    if (backend->name().starts_with("cpu:")) return array(converted(values.view(), type));
    const std::int64_t cols = values.shape()[1];
    Tensor identity(DType::kF32, {cols, cols});
    std::fill(identity.as<float>().begin(), identity.as<float>().end(), 0.0f);
    for (std::int64_t i = 0; i < cols; ++i)
      identity.as<float>()[static_cast<std::size_t>(i * cols + i)] = 1.0f;
    const auto linear = backend->make_linear(DenseWeight{std::move(identity)}, std::nullopt, type);
    const auto input = array(values);
    auto made = backend->make_array(values.shape()[0], cols);
    backend->linear(*input, *linear, values.shape()[0], *made);
    return made;
  }
  std::vector<float> read(const Backend::Array& made, std::int64_t rows, std::int64_t cols) const {
    std::vector<float> result(static_cast<std::size_t>(rows * cols));
    backend->read(made, rows, result);
    return result;
  }
};

struct Sides {
  Side cpu{make_cpu_backend(2)}, gpu{make_cuda_backend(0)};
};

// Relative, of the vectors as wholes.
inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return std::sqrt(difference / (size + 1e-30));
}

// Float32 sums in another order; else one or two roundings of what is written.
inline double tolerance(DType type) { return type == DType::kF32 ? 2e-6 : type == DType::kF16 ? 1e-3 : 8e-3; }

}  // namespace qtool::test
