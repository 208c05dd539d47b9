// A product of 2 to 8 tokens with 4-bit tiles, inputs included. See few4.cu.
#pragma once

#include "cuda/pointwise.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

inline constexpr std::int64_t kMostFew4Tokens = 8;

// Whether the kernel takes these inputs, values and not too many columns of them, on a device of
// capability 9.0 with `shared_bytes` of a thread block.
bool takes_few4(const HalfInputs& inputs, int shared_bytes);

// `linear` with `inputs.rows` tokens and no x; `inputs` with no out.
void launch_few4(const SmallProblem& linear, const HalfInputs& inputs, bool nested, cudaStream_t stream);

}  // namespace qtool::cuda
