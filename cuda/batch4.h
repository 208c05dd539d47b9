// Products of a batch of tokens with 4-bit tiles, between small_linear.h and dequantized panels. See
// batch4.cu.
#pragma once

#include "cuda/small_linear.h"

namespace qtool::cuda {

// Tokens of one pass on a device of `capability` (10 * major + minor) with so much shared memory for a thread
// block; 0 where the kernel does not run.
int most_batch4_tokens(int capability, int shared_bytes);

// Whether `tokens` of them are better served here than by launch_small4 or dequantized panels. `problem` has
// its parts.
bool pays_batch4(const SmallProblem& problem, std::int64_t tokens);

// As launch_small4, with up to most_batch4_tokens().
void launch_batch4(const SmallProblem& problem, bool nested, cudaStream_t stream);

}  // namespace qtool::cuda
