// LLM.int8 on the GPU; the steps and their order are those of
// core/cpu/int8_linear.cpp.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/small_linear.h"

namespace qtool::cuda {

// Inputs of an int8 product in device memory, for all of its tokens at once:
// which columns hold outliers depends on every token of the call.
struct Int8Inputs {
  std::int8_t* codes = nullptr;    // [tokens, stride], 0 in outlier columns and beyond `columns`
  float* absmax = nullptr;         // [tokens]
  int* outlier_count = nullptr;    // [1]
  int* outlier_columns = nullptr;  // [columns], ascending
  unsigned* marks = nullptr;       // [1 + ceil(columns / 32)], 0 between calls
};

struct Int8Source {
  Values x;  // [tokens, columns] of the layer's type
  float threshold = 0.0f;
  std::int64_t tokens = 0, columns = 0;
  std::int64_t stride = 0;  // of the codes, a multiple of 16
  int multiprocessors = 0;
};
void int8_inputs(const Int8Source& source, const Int8Inputs& inputs, cudaStream_t stream);

// The problem's one part, from its integer product `sums` [tokens, out] to values, outliers included; `sums`
// may be null: then the products are computed here, one thread each, for shapes that no library takes.
void int8_results(const SmallProblem& problem, const int* sums, cudaStream_t stream);

}  // namespace qtool::cuda
