// --device and --threads: what the work runs on.
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
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

// Where version 2 of control groups files this process' limits: its own group or, in a container, the root.
std::vector<std::string> cgroup_folders() {
  std::vector<std::string> folders{"/sys/fs/cgroup"};
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::/") && line != "0::/") folders.push_back("/sys/fs/cgroup" + line.substr(3));
  return folders;
}

// CPUs that the control group may use at a time, by its quota; nothing without one. A container on a large
// machine sees all processors but is stopped once its share of time is used up: more threads than that only
// wait.
std::optional<int> cgroup_cpus() {
  const auto cpus = [](double quota, double period) -> std::optional<int> {
    if (!(quota > 0) || !(period > 0)) return std::nullopt;
    return std::max(1, static_cast<int>(std::ceil(quota / period)));
  };
  std::optional<int> least;
  for (const std::string& folder : cgroup_folders()) {
    std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
    double quota = 0;
    double period = 0;
    if (file >> quota >> period)  // "max" is no number
      if (const auto found = cpus(quota, period)) least = std::min(least.value_or(*found), *found);
  }
  if (least) return least;
  double quota = 0;  // version 1
  double period = 0;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  return cpus(quota, period);
}

// A number alone in a file; nothing for "max" or where there is no such file.
std::optional<std::int64_t> number_in(const std::string& path) {
  std::int64_t number = 0;
  return std::ifstream(path) >> number ? std::optional(number) : std::nullopt;
}

}  // namespace

std::int64_t available_memory() {
  std::int64_t available = std::numeric_limits<std::int64_t>::max();
  std::ifstream memory("/proc/meminfo");
  for (std::string key, unit; memory >> key;) {
    std::int64_t kibibytes = 0;
    memory >> kibibytes;
    std::getline(memory, unit);
    if (key == "MemAvailable:") available = kibibytes * 1024;
  }
  for (const std::string& folder : cgroup_folders()) {
    const auto limit = number_in(folder + "/memory.max");
    const auto used = number_in(folder + "/memory.current");
    if (limit && used) available = std::min(available, std::max<std::int64_t>(0, *limit - *used));
  }
  return available;
}

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
