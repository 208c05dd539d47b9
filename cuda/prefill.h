// Attention of many tokens: what prefill_attention chooses from, see attention.h.
#pragma once

#include "cuda/attention.h"

namespace qtool::cuda {

// On compute capability 9.0 (prefill_wgmma.cu), for 16-bit values and head sizes that are a multiple of 8, up
// to 256. False on another device, or where the driver cannot describe tensors to the copy engine.
bool prefill_wgmma(const AttentionProblem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
