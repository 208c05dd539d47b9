// Products of 4-bit tiles with 2 to any number of tokens on Hopper's tensor cores. See wide4.cu.
#pragma once

#include <optional>

#include "core/model/spec.h"
#include "cuda/raii.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

// Tokens that inputs of `tokens` take up: wide4 reads whole operands, and throws away what it makes of tokens
// that are not.
std::int64_t padded_wide4_tokens(std::int64_t tokens);

// What thread blocks that share rows of a product leave for each other.
class Wide4Workspace {
 public:
  explicit Wide4Workspace(int multiprocessors);
  float* sums() const { return sums_.as<float>(); }
  unsigned* ready() const { return ready_.as<unsigned>(); }

 private:
  Buffer sums_, ready_;  // flags, 0 between products
};

// y = weights * x for `tokens` of them. `problem` as for launch_small4, but x lies as wide inputs do (see
// HalfInputs) and x_stride counts their padded tokens. `isolated`: every token's result is the same, to the
// last bit, whatever the number of tokens. `gate`: of two parts with as many rows, act(first) * second
// becomes the first one's y.
void launch_wide4(const SmallProblem& problem, bool nested, bool isolated, std::optional<Activation> gate,
                  const Wide4Workspace& workspace, cudaStream_t stream);

}  // namespace qtool::cuda
