// What the Backend interface is given, as the kernels want it, checked.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>

#include "core/model/backend.h"
#include "cuda/linear.h"
#include "cuda/residents.h"
#include "cuda/rows.h"

namespace qtool::cuda {

// Each of `groups` equal pieces of every row of x by itself.
void run_norm(const CudaArray& x, const Backend::Norm& norm, int groups, std::int64_t rows,
              const CudaArray& out, cudaStream_t stream);

// Whether products take this norm of x with them: the plainest.
bool takes_norm(const CudaArray& x, const Backend::Norm& norm);
// The input of such a product.
LinearInput normed(const CudaArray& x, const Backend::Norm& norm);

// Gives the outputs the type of `fused`.
SplitProblem split_problem(const CudaArray& fused, int groups, std::int64_t rows,
                           std::span<Backend::Array* const> outs);

// A list of rows stays within its array.
void check_rows(std::span<const std::int64_t> rows, const CudaArray& array);

}  // namespace qtool::cuda
