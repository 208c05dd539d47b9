// A product of one token with 4-bit tiles, inputs included. See one_token4.cu.
#pragma once

#include "cuda/pointwise.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

// Whether the inputs fit in a thread block's registers, and the rest on the device.
bool takes_one_token(const HalfInputs& inputs, int capability, int shared_bytes);

// `linear` with one token and no x; `inputs` with one row and no out.
void launch_one_token4(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                       cudaStream_t stream);

// The same of a norm, with two parts of as many rows each, a gate and what it is multiplied by: the first
// one's y becomes act(gate) * up.
void launch_gated_one_token4(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                             Activation activation, cudaStream_t stream);

}  // namespace qtool::cuda
