// From an element type known at run time to a template argument.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/dtype.h"
#include "core/error.h"

namespace qtool::cuda {

template <typename T>
struct TypeTag {
  using Type = T;
};

// Calls f(TypeTag<T>) for float32, half or bfloat16. Everything else was
// refused when it was loaded.
template <typename F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(TypeTag<float>{});
    case DType::kF16:
      return f(TypeTag<__half>{});
    case DType::kBF16:
      return f(TypeTag<__nv_bfloat16>{});
    default:
      throw internal_error("a GPU kernel was given elements of another type than F32, F16, BF16");
  }
}

}  // namespace qtool::cuda
