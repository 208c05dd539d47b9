// Memory of a thread that is used again for one piece of work after another.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace qtool {

// Grows, never shrinks, not initialised.
class Scratch {
 public:
  std::span<std::byte> take(std::int64_t bytes) {
    if (memory_.bytes() < bytes) {
      memory_ = Tensor();  // first gives back what it has
      memory_ = Tensor(DType::kU8, {bytes});
    }
    return {memory_.data(), static_cast<std::size_t>(bytes)};
  }
  template <typename T>
  std::span<T> take_as(std::int64_t count) {
    const std::span<std::byte> bytes = take(count * static_cast<std::int64_t>(sizeof(T)));
    return {reinterpret_cast<T*>(bytes.data()), static_cast<std::size_t>(count)};
  }

 private:
  Tensor memory_;
};

}  // namespace qtool
