// Large matrix products through cuBLASLt, found at run time: a machine without
// the library still runs qtool.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <memory>

#include "core/dtype.h"

namespace qtool::cuda {

struct MatrixProduct {
  // y[t][r] = sum over c of weight[r][c] * x[t][c] (+ bias[r])
  const void* weight = nullptr;  // [out, in], rows packed
  const void* x = nullptr;       // [tokens, in], rows packed
  void* y = nullptr;             // [tokens, y_stride], first of `out` columns
  std::int64_t tokens = 0, out = 0, in = 0, y_stride = 0;
  DType type = DType::kBF16;  // of weight, x and y; I8 gives I32 results. Sums
                              // are float32 or int32.
  bool adds = false;          // of 16-bit types: y is float32, and the product is added to it
};

class CublasLt {
 public:
  // Null where no library is found.
  static std::unique_ptr<CublasLt> open();
  virtual ~CublasLt() = default;

  // False if the library has no way to do it. Algorithms are chosen once per
  // shape; not to be called for a new shape while a stream is being captured.
  virtual bool multiply(const MatrixProduct& product, cudaStream_t stream) = 0;
};

}  // namespace qtool::cuda
