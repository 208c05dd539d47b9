// --device and --threads: what the work runs on.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <thread>

#include "cmd/cli.h"
#include "core/cpu/cpu_backend.h"
#include "cuda/cuda_backend.h"

namespace qtool {
namespace {

// The GPU that --device names; nothing for the CPU.
std::optional<int> gpu_of(const std::string& device) {
  if (device == "cpu") return std::nullopt;
  if (device == "auto") return cuda_device_count() > 0 ? std::optional<int>(0) : std::nullopt;
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (device.starts_with(kPrefix)) {
    int index = -1;
    const char* const end = device.data() + device.size();
    const auto [stopped, failure] = std::from_chars(device.data() + kPrefix.size(), end, index);
    if (failure == std::errc() && stopped == end && index >= 0) return index;
  }
  throw Error(ExitCode::kUsage, "--device must be auto, cpu, cuda or cuda:N, is '" + escaped(device) + "'");
}

}  // namespace

int thread_count(const CommonOptions& common) {
  if (common.threads > 0) return common.threads;
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    int threads = 0;  // "8" or, for nested regions, "8,2"
    std::from_chars(text, text + std::string_view(text).size(), threads);
    if (threads > 0) return threads;
  }
  const int processors =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));  // respects affinity
  return std::min(processors, cgroup_cpus().value_or(processors));
}

std::unique_ptr<Backend> make_backend(const CommonOptions& common) {
  const auto gpu = gpu_of(common.device);
  return gpu ? make_cuda_backend(*gpu) : make_cpu_backend(thread_count(common));
}

std::unique_ptr<Quantizer> make_quantizer(const CommonOptions& common) {
  const auto gpu = gpu_of(common.device);
  return gpu ? make_cuda_quantizer(*gpu) : make_cpu_quantizer();
}

}  // namespace qtool
