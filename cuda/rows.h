// Moving rows of activations: from tables in, apart, out and back by lists of rows. Row lists, ids and places
// are device memory, checked by the caller.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/attention.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// out[i] = table[ids[i]] in float32.
void embed(Values table, std::int64_t cols, const std::int32_t* ids, std::int64_t rows, float* out,
           cudaStream_t stream);

// x[r] += table[first + places[r].position]
void add_positions(float* x, Values table, std::int64_t first, const Place2* places, std::int64_t rows,
                   std::int64_t cols, cudaStream_t stream);

// fused [rows, groups * sum of widths] of elements of `element` bytes -> outs[i] [rows, groups * widths[i]].
inline constexpr int kMostSplit = 4;
struct SplitProblem {
  const void* fused = nullptr;
  void* outs[kMostSplit] = {};
  int widths[kMostSplit] = {};  // columns of each in one group
  int parts = 0;
  int groups = 1;
  int element = 4;
  std::int64_t rows = 0;
};
void split(const SplitProblem& problem, cudaStream_t stream);

// out[i] = x[rows[i]], both of elements of `element` bytes.
void gather(const void* x, int element, const std::int64_t* rows, std::int64_t count, std::int64_t cols,
            void* out, cudaStream_t stream);

// x[rows[i]] += weights[i] * y[i]; no row twice.
void scatter_add(Values y, const std::int64_t* rows, const float* weights, std::int64_t count,
                 std::int64_t cols, float* x, cudaStream_t stream);

}  // namespace qtool::cuda
