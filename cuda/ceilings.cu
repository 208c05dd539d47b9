// The device's limits, measured on random data: zeros would run faster than
// anything real.
#include <algorithm>
#include <functional>
#include <vector>

#include "cuda/cublaslt.h"
#include "cuda/cuda_backend.h"
#include "cuda/launch.cuh"

namespace qtool {
namespace {

using cuda::Buffer;
using cuda::check;

constexpr std::int64_t kBytes = std::int64_t{1} << 30;  // beyond any cache
constexpr int kThreads = 512;
constexpr int kRuns = 7;

__global__ void fill_kernel(unsigned* out, std::int64_t count, unsigned mask) {
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    unsigned h = static_cast<unsigned>(i) * 2654435761u;
    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    out[i] = h & mask;
  }
}

__global__ void read_kernel(const uint4* in, std::int64_t count, unsigned* out) {
  unsigned sum = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const uint4 v = __ldcs(in + i);
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678u) *out = sum;  // keeps the loads alive
}

// Median seconds of `work`.
double time_of(cudaStream_t stream, const std::function<void()>& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "creating an event");
  check(cudaEventCreate(&end), "creating an event");
  std::vector<float> times;
  for (int run = 0; run <= kRuns; ++run) {
    cudaEventRecord(begin, stream);
    work();
    cudaEventRecord(end, stream);
    check(cudaEventSynchronize(end), "measuring");
    float milliseconds = 0.0f;
    cudaEventElapsedTime(&milliseconds, begin, end);
    if (run > 0) times.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[times.size() / 2]) * 1e-3;
}

}  // namespace

DeviceCeilings measure_cuda_ceilings() {
  int device = 0, multiprocessors = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "asking for the device");
  const auto grid = static_cast<unsigned>(multiprocessors * 4);
  const cuda::Stream stream;
  Buffer source(cuda::Place::kDevice, kBytes), target(cuda::Place::kDevice, kBytes);
  // Bit patterns that are small values in bfloat16: neither infinite nor NaN.
  fill_kernel<<<grid, kThreads, 0, stream.get()>>>(source.as<unsigned>(), kBytes / 4, 0xbfffbfffu);
  check(cudaGetLastError(), "filling a buffer");

  DeviceCeilings ceilings;
  const double bytes = static_cast<double>(kBytes);
  ceilings.read_gb_per_s = bytes * 1e-9 / time_of(stream.get(), [&] {
                             read_kernel<<<grid, kThreads, 0, stream.get()>>>(source.as<uint4>(), kBytes / 16,
                                                                              target.as<unsigned>());
                           });
  ceilings.copy_gb_per_s =
      2 * bytes * 1e-9 / time_of(stream.get(), [&] {
        check(cudaMemcpyAsync(target.as<void>(), source.as<void>(), static_cast<std::size_t>(kBytes),
                              cudaMemcpyDeviceToDevice, stream.get()),
              "copying");
      });
  if (const auto blas = cuda::CublasLt::open()) {
    constexpr std::int64_t kSize = 8192;
    constexpr double kOperations = 2.0 * kSize * kSize * kSize;
    auto* x = source.as<std::byte>() + kBytes / 2;
    for (const DType type : {DType::kBF16, DType::kI8}) {
      const cuda::MatrixProduct product{
          source.as<void>(), x, target.as<void>(), kSize, kSize, kSize, kSize, type};
      if (!blas->multiply(product, stream.get())) continue;
      const double seconds = time_of(stream.get(), [&] { blas->multiply(product, stream.get()); });
      (type == DType::kI8 ? ceilings.int8_tops : ceilings.bf16_tflop_per_s) = kOperations * 1e-12 / seconds;
    }
  }
  return ceilings;
}

}  // namespace qtool
