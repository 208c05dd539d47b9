#include "cuda/recordings.h"

#include "cuda/raii.h"

namespace qtool::cuda {

void GraphRecordings::forget() {
  for (auto& [form, graph] : graphs_)
    if (graph) cudaGraphExecDestroy(graph);
  graphs_.clear();
}

void GraphRecordings::run(const Form& form, cudaStream_t stream, const std::function<void()>& body,
                          const std::function<std::vector<const void*>()>& workspaces) {
  if (workspaces() != workspaces_) forget();
  const auto [found, is_new] = graphs_.try_emplace(form, nullptr);
  if (is_new) {
    try {
      body();
    } catch (...) {
      graphs_.erase(found);
      throw;
    }
    if (auto now = workspaces(); now != workspaces_) {
      // Growth invalidates what was recorded before, not that this form has
      // run.
      forget();
      graphs_.try_emplace(form, nullptr);
      workspaces_ = std::move(now);
    }
    return;
  }
  if (!found->second) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning to record a step");
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "recording a step");
    const cudaError_t status = cudaGraphInstantiate(&found->second, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "making a recorded step executable");
  }
  check(cudaGraphLaunch(found->second, stream), "replaying a step");
}

}  // namespace qtool::cuda
