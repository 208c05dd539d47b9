#include "core/machine.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <string>

using namespace qtool;

TEST_CASE("there is memory to be had, and not more than the machine has") {
  std::int64_t total = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string key, rest; file >> key && std::getline(file, rest);)
    if (key == "MemTotal:") total = std::stoll(rest) * 1024;
  if (total == 0) {
    WARN("no /proc/meminfo here: skipped");
    return;
  }
  const std::int64_t available = available_memory();
  CHECK(available > 0);
  CHECK(available <= total);
}

TEST_CASE("a quota of CPUs is at least one") {
  if (const auto cpus = cgroup_cpus()) CHECK(*cpus >= 1);
}
