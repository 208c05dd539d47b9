// LLM.int8 on the GPU; the steps and their order are those of
// core/cpu/int8_linear.cpp.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/residents.h"

namespace qtool::cuda {

// Inputs of an int8 product in device memory, for all of its tokens at once:
// which columns hold outliers depends on every token of the call.
struct Int8Inputs {
  std::int8_t* codes = nullptr;      // [tokens, stride], 0 in outlier columns and beyond `columns`
  float* absmax = nullptr;           // [tokens]
  void* typed = nullptr;             // [tokens, columns] of the layer's type
  int* outlier_count = nullptr;      // [1]
  int* outlier_columns = nullptr;    // [columns], ascending
  unsigned* outlier_mask = nullptr;  // [ceil(columns / 32)]
};

void int8_inputs(Values x, DType type, float threshold, std::int64_t tokens, std::int64_t columns,
                 std::int64_t stride, const Int8Inputs& inputs, cudaStream_t stream);

// From the integer product [tokens, out] to values of the layer's type,
// outliers included; `sums` may be null: then the products are computed here,
// one thread each, for shapes that no library takes.
struct Int8Results {
  const int* sums = nullptr;
  const std::int8_t* weight = nullptr;  // [out, columns]
  const float* row_absmax = nullptr;    // [out]
  const float* bias = nullptr;          // [out] or null
  std::int64_t tokens = 0, out = 0, columns = 0, stride = 0;
  DType type = DType::kF16;
  void* y = nullptr;
};
void int8_results(const Int8Inputs& inputs, const Int8Results& results, cudaStream_t stream);

}  // namespace qtool::cuda
