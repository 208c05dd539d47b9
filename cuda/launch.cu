#include <mutex>
#include <unordered_set>

#include "cuda/launch.cuh"

namespace qtool::cuda {

void prefer_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::unordered_set<const void*> done;
  const std::lock_guard lock(mutex);
  if (!done.insert(kernel).second) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared),
        "dividing a multiprocessor's memory");
}

}  // namespace qtool::cuda
