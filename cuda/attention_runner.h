// Attention of a step on the GPU: what the kernels of attention.h are given, and their workspace.
#pragma once

#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "core/model/backend.h"
#include "cuda/attention.h"
#include "cuda/device.h"
#include "cuda/raii.h"
#include "cuda/residents.h"
#include "cuda/step_inputs.h"

namespace qtool::cuda {

class AttentionRunner {
 public:
  AttentionRunner(const Device& device, StepInputs& inputs, cudaStream_t stream)
      : device_(device), inputs_(inputs), stream_(stream) {}

  // Tokens on their way into layer `layer` of the cache; q, k and v are of one type.
  struct Tokens {
    const CudaArray& q;
    const CudaArray& k;
    const CudaArray& v;
    const CudaRope* rope;
    int heads;
  };
  // Backend's rope_append, attention and rope_attention.
  void append(const Tokens& tokens, std::span<const Segment> segments, int layer, const CudaCache& cache);
  void run(const CudaArray& q, int heads, const Backend::AttentionOptions& options,
           std::span<const Segment> segments, int layer, const CudaCache& cache, CudaArray& out);
  void append_and_run(const Tokens& tokens, const Backend::AttentionOptions& options,
                      std::span<const Segment> segments, int layer, const CudaCache& cache, CudaArray& out);

  // From now on a token's result depends on its own sequence alone, to the last bit.
  void isolate_rows() { isolated_ = true; }

  // Where its buffers are now; they move when they grow.
  std::vector<const void*> workspaces() const;

 private:
  AttentionProblem problem_of(const CudaArray& q, int heads, const Backend::AttentionOptions& options,
                              int layer, const CudaCache& cache, CudaArray& out) const;
  void reserve(AttentionProblem& problem);

  const Device& device_;
  StepInputs& inputs_;
  cudaStream_t stream_;
  bool isolated_ = false;
  Buffer partials_, arrived_;
};

}  // namespace qtool::cuda
