// Launches, and what a kernel says to its neighbours in the stream.
//
// Every kernel of the forward pass is launched so that it may start while its
// predecessor still runs (programmatic dependent launch, compute
// capability 9.0). It first does what depends on no predecessor: fill tables,
// ask for weights. Then it calls wait_for_predecessor(), and only after that
// touches activations. A kernel that follows one without these calls, or runs
// on an older device, simply starts later.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <utility>

#include "cuda/raii.h"

namespace qtool::cuda {

__device__ __forceinline__ void let_successor_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// For kernels that have nothing to do beforehand.
__device__ __forceinline__ void join_stream() {
  let_successor_start();
  wait_for_predecessor();
}

// Gives `kernel` the largest share of shared memory, once. A multiprocessor has
// to run empty before it can divide its memory in another way: neighbours in
// the stream overlap only if they all divide it alike.
void prefer_shared_memory(const void* kernel);

struct Launch {
  dim3 grid;
  unsigned threads;
  std::int64_t shared_bytes = 0;
  unsigned cluster = 1;  // thread blocks that can read each other's shared memory
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Launch& shape, cudaStream_t stream, const char* what,
            Arguments&&... arguments) {
  prefer_shared_memory(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {shape.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = shape.cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...),
        what);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace qtool::cuda
