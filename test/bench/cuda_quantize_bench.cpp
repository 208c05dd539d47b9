// The quantizer's kernels on the GPU, from a gigabyte of bfloat16 in its memory, in TB/s of that input:
// --benchmark_filter=gpu
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>
#include <random>
#include <vector>

#include "core/convert.h"
#include "core/tensor.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/raii.h"

namespace {

using namespace qtool;
using cuda::Buffer, cuda::Place, cuda::check;

constexpr std::int64_t kRows = 1 << 17, kColumns = 1 << 12, kCount = kRows * kColumns;
constexpr std::int64_t kPeriod = 1 << 21;  // values drawn, and then repeated

// [kRows, kColumns]
Buffer weights() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(kPeriod);
  for (float& value : values) value = normal(random);
  Tensor period(DType::kBF16, {kPeriod});
  from_float32(values.data(), kPeriod, DType::kBF16, period.data());
  Buffer all(Place::kDevice, kCount * 2);
  for (std::int64_t done = 0; done < kCount; done += kPeriod)
    check(cudaMemcpy(all.as<std::byte>() + done * 2, period.data(), static_cast<std::size_t>(period.bytes()),
                     cudaMemcpyHostToDevice),
          "copying values");
  return all;
}

// Times what `launch` does with weights() by the device's clock.
template <typename Launch>
void measure(benchmark::State& state, const Launch& launch) {
  if (cuda_device_count() == 0) return state.SkipWithError(cuda_absence().c_str());
  cuda::open_device(0);
  cuda::upload_codebooks();
  const Buffer values = weights();
  const cuda::Stream stream;
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "making an event");
  check(cudaEventCreate(&end), "making an event");
  for (auto _ : state) {
    check(cudaEventRecord(begin, stream.get()), "recording an event");
    launch(values, stream.get());
    check(cudaEventRecord(end, stream.get()), "recording an event");
    stream.wait();
    float milliseconds = 0.0f;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "reading a clock");
    state.SetIterationTime(milliseconds * 1e-3);
  }
  state.counters["TB/s"] = benchmark::Counter(static_cast<double>(values.bytes()) * 1e-12,
                                              benchmark::Counter::kIsIterationInvariantRate);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

void gpu_block4(benchmark::State& state, Code4 code) {
  Buffer packed, absmax;
  measure(state, [&](const Buffer& values, cudaStream_t stream) {
    packed.reserve(kCount / 2);
    absmax.reserve(kCount / 64 * 4);
    cuda::launch_block4({.values = values.as<void>(),
                         .dtype = DType::kBF16,
                         .count = kCount,
                         .code = code,
                         .block_size = 64,
                         .packed = packed.as<std::uint8_t>(),
                         .absmax = absmax.as<float>()},
                        stream);
  });
}
BENCHMARK_CAPTURE(gpu_block4, nf4, Code4::kNf4)->UseManualTime();
BENCHMARK_CAPTURE(gpu_block4, fp4, Code4::kFp4)->UseManualTime();

void gpu_int8_rows(benchmark::State& state) {
  Buffer codes, absmax;
  measure(state, [&](const Buffer& values, cudaStream_t stream) {
    codes.reserve(kCount);
    absmax.reserve(kRows * 4);
    cuda::launch_int8(
        {values.as<void>(), DType::kBF16, kRows, kColumns, codes.as<std::int8_t>(), absmax.as<float>()},
        stream);
  });
}
BENCHMARK(gpu_int8_rows)->UseManualTime();

}  // namespace
