// A product of one token with dense 16-bit or LLM.int8 rows, inputs included. See one_token_rows.cu.
#pragma once

#include "cuda/pointwise.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

// Whether the inputs and sums fit in a thread block, and the copies on the device. `linear` has its parts.
bool takes_one_token_rows(const SmallProblem& linear, const HalfInputs& inputs, WeightForm form,
                          int capability, int shared_bytes);

// `linear` with one token and no x; `inputs` with one row and no out. int8: columns with a value of at least
// `threshold` are outliers.
void launch_one_token_rows(const SmallProblem& linear, const HalfInputs& inputs, WeightForm form,
                           float threshold, cudaStream_t stream);

}  // namespace qtool::cuda
