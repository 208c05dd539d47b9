// What rope_append does with many tokens, see attention.h.
#pragma once

#include "cuda/attention.h"

namespace qtool::cuda {

// False if it does not take these types, this head size or so few tokens.
bool rope_append_rows(Values q, Values k, Values v, const Rotation& rotation, int heads, const Place2* places,
                      std::int64_t rows, int layer, const CudaCache& cache, cudaStream_t stream);

}  // namespace qtool::cuda
