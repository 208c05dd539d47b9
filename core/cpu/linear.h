// A linear layer on the CPU: prepares the tokens, picks the kernel, shares the rows among threads.
#pragma once

#include <cstdint>

#include "core/cpu/kernel_functions.h"
#include "core/cpu/residents.h"
#include "core/cpu/scratch.h"

namespace qtool::cpu {

inline constexpr std::int64_t kRowsPerTask = 32;     // of a weight: 64 KB of 4-bit codes at 4096 columns
inline constexpr std::int64_t kTokensPerPass = 512;  // bounds a thread's sums to 64 KB
inline constexpr std::int64_t kSerialBelow = 1
                                             << 16;  // multiplications done while other threads would wake up

// Runs linear layers; not thread-safe (one forward pass at a time).
class LinearRunner {
 public:
  LinearRunner(const KernelFunctions& kernels, int threads) : kernels_(kernels), threads_(threads) {}

  // out[t][r] = RN_compute(sum over k of RN_compute(x[t][k]) * W[r][k] + RN_compute(bias[r]))
  //   x [tokens, in], out [tokens, out]. Int8Weight: see int8_linear.cpp.
  // A token's result depends neither on the thread count nor, beyond the choice of the product by the number
  // of tokens (and LLM.int8's outlier columns, which are those of any token), on its company.
  void run(const CpuLinear& layer, const float* x, std::int64_t tokens, float* out);

  // From now on every token is multiplied as if it came alone: by the direct product for one, in passes.
  void isolate_tokens() { isolated_ = true; }

  std::int64_t workspace_bytes() const {
    return inputs_.bytes() + packed_.bytes() + threads_scratch_.bytes();
  }

 private:
  struct Rows;  // where decoded rows come from

  void run_direct(const CpuLinear& layer, const Rows& rows, const Direct4Functions* direct, const float* x,
                  std::int64_t tokens, float* out);
  void run_tiled(const CpuLinear& layer, const Rows& rows, const float* x, std::int64_t tokens, float* out);
  void run_int8(const CpuLinear& layer, const Int8Weight& weight, const float* x, std::int64_t tokens,
                float* out);

  const KernelFunctions& kernels_;
  int threads_;
  bool isolated_ = false;
  Scratch inputs_;           // tokens, rounded
  Scratch packed_;           // tokens in a kernel's own order
  Scratch threads_scratch_;  // tiles and sums, one part per thread
};

// Block4Weight as kernels see it, with values rounded to `compute`.
Block4Rows rows_of(const Block4Weight& weight, DType compute);

}  // namespace qtool::cpu
