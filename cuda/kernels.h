// Launchers: plain host functions that compute a grid and launch. A problem is
// a struct of device pointers and sizes.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "core/quant/spec.h"

namespace qtool::cuda {

// Once per device, before the first launch_block4.
void upload_codebooks();

struct Block4Problem {
  const void* values;  // [count] of `dtype`: F32, F16, BF16; 16-byte aligned
  DType dtype;
  std::int64_t count;
  Code4 code;
  int block_size;
  std::uint8_t* packed;  // [ceil(count / 2)], 4-byte aligned
  float* absmax;         // [ceil(count / block_size)]
};
void launch_block4(const Block4Problem& problem, cudaStream_t stream);

struct NestProblem {
  const float* absmax;  // [count]
  std::int64_t count;
  const float* thresholds;  // [256]: kDynamicThresholds, then +inf
  float* workspace;         // [nest_workspace_floats(count)]
  float* mean;              // [1], out
  std::uint8_t* codes;      // [count], out
  float* nested_absmax;     // [ceil(count / 256)], out
};
std::int64_t nest_workspace_floats(std::int64_t count);
void launch_nest(const NestProblem& problem, cudaStream_t stream);

struct Int8Problem {
  const void* values;  // [rows, columns] of `dtype`
  DType dtype;
  std::int64_t rows;
  std::int64_t columns;
  std::int8_t* codes;  // [rows, columns]
  float* row_absmax;   // [rows]
};
void launch_int8(const Int8Problem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
