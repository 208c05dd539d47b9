// The likeliest token of each row of logits.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/residents.h"

namespace qtool::cuda {

// Pinned host memory, into which the kernel writes: a few bytes get there sooner than a copy of them would.
struct CudaIds : Backend::Ids {
  explicit CudaIds(std::int64_t rows) : memory(Place::kPinnedHost, rows * 4) {}
  std::int64_t bytes() const override { return memory.bytes(); }
  std::int64_t rows() const { return memory.bytes() / 4; }

  Buffer memory;  // int32 [rows]
};

// out[r] = column of the largest value of row r of x [rows, cols], the first of equals; -1 where a value is
// NaN or +infinity.
void argmax(Values x, std::int64_t rows, std::int64_t cols, const CudaIds& out, cudaStream_t stream);

}  // namespace qtool::cuda
