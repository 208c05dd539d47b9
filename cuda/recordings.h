// Decode steps as CUDA graphs. A step of a known form is one launch; what
// changes between steps lies in device memory (step_inputs.h), and everything
// else is as it was when the step was recorded.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <functional>
#include <map>
#include <tuple>
#include <vector>

#include "core/model/backend.h"

namespace qtool::cuda {

class GraphRecordings final : public Backend::Recordings {
 public:
  GraphRecordings() = default;
  GraphRecordings(const GraphRecordings&) = delete;
  ~GraphRecordings() override { forget(); }

  // The form of a step: number of tokens and the length that kernels are laid
  // out for.
  using Form = std::tuple<std::int64_t, std::int64_t>;

  // Runs `body` on `stream`: as it is for the first time (buffers grow,
  // algorithms are chosen), recorded the second time, replayed from then on.
  // `workspaces()` tells where the buffers are that body uses: when one has
  // moved, nothing recorded holds any more.
  void run(const Form& form, cudaStream_t stream, const std::function<void()>& body,
           const std::function<std::vector<const void*>()>& workspaces);

 private:
  void forget();

  std::map<Form, cudaGraphExec_t> graphs_;  // null: has run once
  std::vector<const void*> workspaces_;
};

}  // namespace qtool::cuda
