// Working memory that is allocated once and reused.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace qtool::cpu {

// Grows to the largest request; contents are lost when it grows. 64-byte aligned.
class Scratch {
 public:
  template <typename T>
  T* get(std::int64_t count) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    if (bytes > memory_.bytes()) memory_ = Tensor(DType::kU8, {bytes});
    return reinterpret_cast<T*>(memory_.data());
  }
  std::int64_t bytes() const { return memory_.bytes(); }

 private:
  Tensor memory_;
};

}  // namespace qtool::cpu
