#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

#include "core/error.h"
#include "cuda/raii.h"

namespace qtool::cuda {

namespace {

std::mutex names_mutex;
std::map<int, std::string> names;

std::string device_name() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) device = 0;
  const std::lock_guard lock(names_mutex);
  const auto found = names.find(device);
  return "GPU " + std::to_string(device) + (found == names.end() ? "" : " (" + found->second + ")");
}

// Errors after which the process cannot use the device any more, as the
// runtime's documentation says of each.
constexpr cudaError_t kFinal[] = {
    cudaErrorIllegalAddress,     cudaErrorMisalignedAddress,   cudaErrorInvalidAddressSpace,
    cudaErrorIllegalInstruction, cudaErrorInvalidPc,           cudaErrorHardwareStackError,
    cudaErrorLaunchFailure,      cudaErrorLaunchTimeout,       cudaErrorAssert,
    cudaErrorECCUncorrectable,   cudaErrorNvlinkUncorrectable, cudaErrorDevicesUnavailable,
};

std::atomic<std::int64_t> calls_until_failure{0};
std::atomic<cudaError_t> failure_to_come{cudaSuccess};

cudaError_t failure_due() {
  if (calls_until_failure.load(std::memory_order_relaxed) <= 0) return cudaSuccess;
  return calls_until_failure.fetch_sub(1) == 1 ? failure_to_come.load() : cudaSuccess;
}

}  // namespace

void name_device(int index, const std::string& name) {
  const std::lock_guard lock(names_mutex);
  names[index] = name;
}

void fail_call(std::int64_t number, cudaError_t status) {
  failure_to_come = status;
  calls_until_failure = number;
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) status = failure_due();
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that can be recovered from must not show up
                       // again at the next call
  const std::string sentence = device_name() + ": " + what + " failed: " + cudaGetErrorString(status);
  if (status == cudaErrorMemoryAllocation) throw Error(ExitCode::kMemory, sentence);
  const bool is_final = std::find(std::begin(kFinal), std::end(kFinal), status) != std::end(kFinal);
  throw Error(
      ExitCode::kDevice,
      sentence + (is_final ? "; the GPU is lost to this process: run it again, or with --device cpu" : ""));
}

Buffer::Buffer(Place place, std::int64_t bytes) : place_(place), bytes_(bytes) {
  if (bytes == 0) return;
  const auto size = static_cast<std::size_t>(bytes);
  cudaError_t status = failure_due();
  if (status == cudaSuccess)
    status = place == Place::kDevice ? cudaMalloc(&data_, size)
                                     : cudaHostAlloc(&data_, size, cudaHostAllocDefault);
  if (status == cudaSuccess) return;
  const bool on_host = place == Place::kPinnedHost;
  std::size_t free_now = 0, total = 0;
  if (status != cudaErrorMemoryAllocation || cudaMemGetInfo(&free_now, &total) != cudaSuccess)
    check(status, on_host ? "allocating pinned host memory" : "allocating device memory");
  cudaGetLastError();
  throw Error(
      ExitCode::kMemory,
      device_name() + ": out of " + (on_host ? "pinned host memory" : "memory") + ": " +
          std::to_string(bytes) + " bytes needed" +
          (on_host ? "" : ", " + std::to_string(free_now) + " of " + std::to_string(total) + " free"));
}

Buffer::~Buffer() {
  if (place_ == Place::kPinnedHost)
    cudaFreeHost(data_);
  else
    cudaFree(data_);
}

}  // namespace qtool::cuda
