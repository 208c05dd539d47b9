// Any floating-point or 4-bit weight of any shape, in any type: one warp a row,
// float32 sums. What the faster kernels do not take ends here; float32
// computation does too.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/residents.h"

namespace qtool::cuda {

// y[t][r] = round(sum of x * weight + bias); x has the layer's compute type, as
// y.
void generic_linear(const CudaLinear& linear, const void* x, std::int64_t tokens, void* y,
                    cudaStream_t stream);

}  // namespace qtool::cuda
