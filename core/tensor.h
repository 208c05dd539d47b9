// Tensors: borrowed (TensorView) and owned (Tensor). Contiguous, row-major, in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"

namespace qtool {

using Shape = std::vector<std::int64_t>;  // outermost first; empty for a scalar

// Number of elements; the caller has checked that the product fits (formats does so at the border).
inline std::int64_t count_of(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

// Bytes that somebody else keeps alive.
struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  std::int64_t count() const { return count_of(shape); }
  std::int64_t bytes() const { return count() * size_of(dtype); }
  template <typename T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data), static_cast<std::size_t>(bytes()) / sizeof(T)};
  }
};

// Bytes of its own: 64-byte aligned, not initialised, move-only.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);  // throws Error(kMemory) when the memory is not to be had

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const { return count_of(shape_); }
  std::int64_t bytes() const { return data_ ? count() * size_of(dtype_) : 0; }
  bool empty() const { return !data_; }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  template <typename T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_.get()), static_cast<std::size_t>(bytes()) / sizeof(T)};
  }
  template <typename T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data_.get()), static_cast<std::size_t>(bytes()) / sizeof(T)};
  }
  TensorView view() const { return {data_.get(), dtype_, shape_}; }

 private:
  struct Free {
    void operator()(std::byte* pointer) const;
  };
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace qtool
