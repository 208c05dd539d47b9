// Norms over rows, or over equal pieces of rows.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/model/spec.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// Backend::Norm with its tables in device memory; no data: none.
struct NormRule {
  NormKind kind = NormKind::kRms;
  float eps = 0.0f;
  Values weight = {};
  float weight_offset = 0.0f;
  Values bias = {};
};

// Normalises every one of the `groups` equal pieces of each row of x [rows, cols] by itself. The tables have
// the columns of one piece, or of a row (`whole_tables`). out may be x if it is of x's type. Statistics are
// float32, those of NormKind::kLayer in two passes over values that stay in registers or the cache: their
// relative error is at most (n / threads + 10) * 2^-24 of the mean of |x| or x^2, n columns by 32 or 256
// threads.
void norm(Values x, const NormRule& rule, int groups, bool whole_tables, std::int64_t rows, std::int64_t cols,
          Values out, cudaStream_t stream);

}  // namespace qtool::cuda
