#include <cuda_runtime.h>

#include "core/error.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/hopper.cuh"
#include "cuda/raii.h"

namespace qtool {
namespace {

// A kernel of no consequence: whether it can be loaded says whether this program has code for the device, its
// bound whether that was compiled with Hopper's own instructions.
constexpr int kHopperMark = 64;
__global__ void __launch_bounds__(QTOOL_HAS_WGMMA ? kHopperMark : 32) probe_kernel() {}

}  // namespace

int cuda_device_count() {
  int count = 0;
  const bool usable = cudaGetDeviceCount(&count) == cudaSuccess;
  cudaGetLastError();
  return usable ? count : 0;
}

std::string cuda_absence() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  const std::string advice = "; use --device cpu (the default without a GPU)";
  if (status == cudaErrorInsufficientDriver)
    return "the NVIDIA driver is missing or older than this qtool needs" + advice;
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "there is no GPU" + advice;
  if (status != cudaSuccess) return std::string("no GPU can be used: ") + cudaGetErrorString(status) + advice;
  return "there are " + std::to_string(count) + " GPUs, numbered from 0" + advice;
}

namespace cuda {

bool has_hopper_code(int capability) {
  if (capability != 90) return false;
  static const bool has = [] {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, probe_kernel), "asking what was compiled");
    return attributes.maxThreadsPerBlock == kHopperMark;
  }();
  return has;
}

Device open_device(int index) {
  if (index < 0 || index >= cuda_device_count()) throw Error(ExitCode::kDevice, cuda_absence());
  check(cudaSetDevice(index), "selecting the device");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "asking for the device's properties");
  name_device(index, properties.name);
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, probe_kernel) != cudaSuccess) {
    cudaGetLastError();
    throw Error(ExitCode::kDevice, std::string("GPU ") + std::to_string(index) + " (" + properties.name +
                                       ", compute capability " + std::to_string(properties.major) + "." +
                                       std::to_string(properties.minor) +
                                       ") is not among those this qtool was built for; build it with "
                                       "QTOOL_CUDA_ARCHITECTURES naming it, or use --device cpu");
  }
  return {index,
          properties.name,
          properties.major * 10 + properties.minor,
          properties.multiProcessorCount,
          static_cast<int>(properties.sharedMemPerBlockOptin),
          properties.l2CacheSize};
}

}  // namespace cuda
}  // namespace qtool
