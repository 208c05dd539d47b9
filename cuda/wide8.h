// LLM.int8 products with many tokens on the integer tensor cores of compute capability 9.0, without an int32
// matrix in memory: see wide8.cu.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/small_linear.h"

namespace qtool::cuda {

// Whether launch_wide8 takes products with this weight on a device of `capability`.
bool takes_wide8(const CudaLinear& linear, int capability);

// Where it is faster than the kernel for few tokens.
inline constexpr std::int64_t kLeastWide8Tokens = 9;

// The memory of its codes is for a multiple of so many tokens; what lies behind the last may be anything.
inline constexpr std::int64_t kWide8Tokens = 64;

// All parts of `problem`, any number of tokens in one launch; x_stride is a multiple of 16.
void launch_wide8(const SmallProblem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
