#include <string>

#include "core/error.h"
#include "cuda/raii.h"

namespace qtool::cuda {

namespace {

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties;
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess)
    return "GPU";
  return "GPU " + std::to_string(device) + " (" + properties.name + ")";
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const ExitCode code = status == cudaErrorMemoryAllocation ? ExitCode::kMemory : ExitCode::kDevice;
  cudaGetLastError();  // an error that can be recovered from must not show up
                       // again at the next call
  throw Error(code, device_name() + ": " + what + " failed: " + cudaGetErrorString(status));
}

Buffer::Buffer(Place place, std::int64_t bytes) : place_(place), bytes_(bytes) {
  if (bytes == 0) return;
  const auto size = static_cast<std::size_t>(bytes);
  if (place == Place::kPinnedHost) {
    check(cudaHostAlloc(&data_, size, cudaHostAllocDefault), "allocating pinned host memory");
    return;
  }
  if (const cudaError_t status = cudaMalloc(&data_, size); status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free_now = 0, total = 0;
    cudaMemGetInfo(&free_now, &total);
    throw Error(ExitCode::kMemory, device_name() + ": out of memory: " + std::to_string(bytes) +
                                       " bytes needed, " + std::to_string(free_now) + " of " +
                                       std::to_string(total) + " free");
  } else {
    check(status, "allocating device memory");
  }
}

Buffer::~Buffer() {
  if (place_ == Place::kPinnedHost)
    cudaFreeHost(data_);
  else
    cudaFree(data_);
}

}  // namespace qtool::cuda
