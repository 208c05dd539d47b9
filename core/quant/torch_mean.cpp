#include "core/quant/torch_mean.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/quant/blocks.h"

namespace qtool {

namespace {

// torch's ATen/native/cuda/Reduce.cuh, as it is configured for a contiguous float32 sum: up to 512 threads a
// block, each with four accumulators; many blocks share a long input, and one block adds their results.
constexpr std::int64_t kMaxThreads = 512;
constexpr std::int64_t kAccumulators = 4;
constexpr std::int64_t kVectorizedFrom = 128;  // shorter inputs are read value by value

struct Launch {
  std::int64_t threads;  // of a block, a power of two
  std::int64_t blocks;
};

Launch launch_of(std::int64_t count, const ReductionGpu& gpu) {
  const std::int64_t items = count >= kVectorizedFrom ? count / kAccumulators : count;
  const auto floor = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(items)));
  const std::int64_t threads = std::clamp<std::int64_t>(floor, 1, kMaxThreads);
  const std::int64_t values_per_thread = divide_up(count, threads);
  if (values_per_thread < 256) return {threads, 1};
  const std::int64_t resident = gpu.multiprocessors * (gpu.threads_per_multiprocessor / threads);
  return {threads,
          std::max(std::min(resident, divide_up(values_per_thread, 16)), divide_up(values_per_thread, 256))};
}

// Halves the partial sums onto each other until one is left: first through shared memory, then within a warp.
float reduce_threads(std::vector<float>& sums) {
  for (std::size_t half = sums.size() / 2; half > 0; half /= 2)
    for (std::size_t t = 0; t < half; ++t) sums[t] += sums[t + half];
  return sums[0];
}

// What the threads of one block have added before they are reduced.
std::vector<float> sum_per_thread(std::span<const float> values, const Launch& launch, std::int64_t block) {
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t threads = launch.threads;
  const std::int64_t step = threads * launch.blocks;
  std::vector<float> accumulators(static_cast<std::size_t>(threads * kAccumulators), 0.0f);  // [threads, 4]
  if (count >= kVectorizedFrom) {
    // Neighbouring threads read neighbouring groups of four, so a block adds a contiguous stretch to all its
    // accumulators at once; then it moves on by what all blocks together have read.
    const std::int64_t whole = count - count % kAccumulators;
    const std::int64_t stretch = threads * kAccumulators;
    for (std::int64_t at = block * stretch; at < whole; at += step * kAccumulators) {
      const float* from = values.data() + at;
      const auto length = static_cast<std::size_t>(std::min(stretch, whole - at));
      for (std::size_t i = 0; i < length; ++i) accumulators[i] += from[i];
    }
    if (block == 0)
      for (std::int64_t i = whole; i < count; ++i)
        accumulators[static_cast<std::size_t>((i - whole) * kAccumulators)] +=
            values[static_cast<std::size_t>(i)];
  } else {
    // A thread deals the values it meets to its accumulators in turn.
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t thread = i % threads;
      const std::int64_t turn = i / threads % kAccumulators;
      accumulators[static_cast<std::size_t>(thread * kAccumulators + turn)] +=
          values[static_cast<std::size_t>(i)];
    }
  }
  std::vector<float> sums(static_cast<std::size_t>(threads));
  for (std::size_t t = 0; t < sums.size(); ++t) {
    const float* a = accumulators.data() + t * kAccumulators;
    sums[t] = ((a[0] + a[1]) + a[2]) + a[3];
  }
  return sums;
}

}  // namespace

float torch_cuda_mean(std::span<const float> values, const ReductionGpu& gpu) {
  const auto count = static_cast<std::int64_t>(values.size());
  const Launch launch = launch_of(count, gpu);
  std::vector<float> partial(static_cast<std::size_t>(launch.blocks));
  for (std::int64_t block = 0; block < launch.blocks; ++block) {
    std::vector<float> sums = sum_per_thread(values, launch, block);
    partial[static_cast<std::size_t>(block)] = reduce_threads(sums);
  }
  float sum = partial[0];
  if (launch.blocks > 1) {
    std::vector<float> sums(static_cast<std::size_t>(launch.threads), 0.0f);
    for (std::size_t i = 0; i < partial.size(); ++i) sums[i % sums.size()] += partial[i];
    sum = reduce_threads(sums);
  }
  return sum * (1.0f / static_cast<float>(count));
}

}  // namespace qtool
