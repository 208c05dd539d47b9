#include "core/machine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace qtool {
namespace {

// Where version 2 of control groups files this process' limits: its own group or, in a container, the root.
std::vector<std::string> cgroup_folders() {
  std::vector<std::string> folders{"/sys/fs/cgroup"};
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::/") && line != "0::/") folders.push_back("/sys/fs/cgroup" + line.substr(3));
  return folders;
}

// A number alone in a file; nothing for "max" or where there is no such file.
std::optional<std::int64_t> number_in(const std::string& path) {
  std::int64_t number = 0;
  return std::ifstream(path) >> number ? std::optional(number) : std::nullopt;
}

// A row of the kernel's account of memory, in bytes.
std::optional<std::int64_t> meminfo(const std::string& row) {
  std::ifstream memory("/proc/meminfo");
  for (std::string key, unit; memory >> key;) {
    std::int64_t kibibytes = 0;
    memory >> kibibytes;
    std::getline(memory, unit);
    if (key == row) return kibibytes * 1024;
  }
  return std::nullopt;
}

// The number behind `key` in a file of such lines; 0 if there is none.
std::int64_t number_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::int64_t number = 0;
  for (std::string name; file >> name >> number;)
    if (name == key) return number;
  return 0;
}

// What one control group leaves of its limit. Of what it uses, file pages not in use do not count: they make
// room when room is needed (Kubernetes' "working set" is the same difference).
std::optional<std::int64_t> left_by(const std::string& limit_file, const std::string& used_file,
                                    const std::string& stat_file, const std::string& cached) {
  const auto limit = number_in(limit_file), used = number_in(used_file);
  if (!limit || !used) return std::nullopt;
  return std::max<std::int64_t>(0, *limit - (*used - std::min(*used, number_of(stat_file, cached))));
}

}  // namespace

std::int64_t available_memory() {
  std::int64_t available = meminfo("MemAvailable:").value_or(std::numeric_limits<std::int64_t>::max());
  const auto narrow = [&available](std::optional<std::int64_t> left) {
    if (left) available = std::min(available, *left);
  };
  for (const std::string& folder : cgroup_folders())
    narrow(left_by(folder + "/memory.max", folder + "/memory.current", folder + "/memory.stat",
                   "inactive_file"));
  const std::string first = "/sys/fs/cgroup/memory/memory.";  // version 1
  narrow(left_by(first + "limit_in_bytes", first + "usage_in_bytes", first + "stat", "total_inactive_file"));
  return available;
}

std::int64_t machine_memory() { return meminfo("MemTotal:").value_or(0); }

std::optional<std::int64_t> cgroup_memory() {
  std::optional<std::int64_t> least;
  const auto narrow = [&least](std::optional<std::int64_t> limit) {
    if (limit && *limit < machine_memory()) least = std::min(least.value_or(*limit), *limit);
  };
  for (const std::string& folder : cgroup_folders()) narrow(number_in(folder + "/memory.max"));
  narrow(number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"));  // version 1; a huge number for none
  return least;
}

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

}  // namespace qtool
