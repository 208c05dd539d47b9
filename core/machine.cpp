#include "core/machine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <malloc.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace qtool {
namespace {

// Where control groups file this process' limits: its own group and all that hold it, up to the root, which
// in a container is its own. Version 2 has one tree (`controller` empty), version 1 one for each controller.
std::vector<std::string> cgroup_folders(const std::string& controller = {}) {
  const std::string root = "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  std::vector<std::string> folders{root};
  std::ifstream groups("/proc/self/cgroup");  // lines "4:memory:/a/b", "3:cpu,cpuacct:/a", "0::/a/b"
  for (std::string line; std::getline(groups, line);) {
    const std::size_t names = line.find(':'), path = line.find(':', names + 1);
    if (path == std::string::npos) continue;
    const std::string listed = "," + line.substr(names + 1, path - names - 1) + ",";
    if (listed.find("," + controller + ",") == std::string::npos) continue;
    for (std::string group = line.substr(path + 1); group.size() > 1; group.resize(group.rfind('/')))
      folders.push_back(root + group);
  }
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
  for (const std::string& folder : cgroup_folders("memory"))
    narrow(left_by(folder + "/memory.limit_in_bytes", folder + "/memory.usage_in_bytes",
                   folder + "/memory.stat", "total_inactive_file"));
  return available;
}

std::int64_t machine_memory() { return meminfo("MemTotal:").value_or(0); }

std::optional<std::int64_t> cgroup_memory() {
  std::optional<std::int64_t> least;
  const auto narrow = [&least](std::optional<std::int64_t> limit) {
    if (limit && *limit < machine_memory()) least = std::min(least.value_or(*limit), *limit);
  };
  for (const std::string& folder : cgroup_folders()) narrow(number_in(folder + "/memory.max"));
  for (const std::string& folder : cgroup_folders("memory"))
    narrow(number_in(folder + "/memory.limit_in_bytes"));  // a huge number for none
  return least;
}

std::int64_t resident_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  std::int64_t pages = 0, resident = 0;
  return std::ifstream("/proc/self/statm") >> pages >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
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
  for (const std::string& folder : cgroup_folders("cpu")) {
    double quota = 0;
    double period = 0;
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;  // -1 for none
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
    if (const auto found = cpus(quota, period)) least = std::min(least.value_or(*found), *found);
  }
  return least;
}

}  // namespace qtool
