// What this process may use of the machine it runs on, within the limits of its control group.
#pragma once

#include <cstdint>
#include <optional>

namespace qtool {

// Memory that can still be had: what the kernel calls available, and what the control group leaves of it; a
// very large number where neither says.
std::int64_t available_memory();

// All memory of the machine; 0 where the kernel does not say.
std::int64_t machine_memory();

// The limit of the control group, the tightest if there are several; nothing where there is none below the
// machine's memory.
std::optional<std::int64_t> cgroup_memory();

// Memory of this process that is in RAM now (mapped files included), after what was freed has been given
// back; 0 where the kernel does not say.
std::int64_t resident_memory();

// CPUs that the control group may use at a time, by its quota; nothing without one. A container on a large
// machine sees all processors but is stopped once its share of time is used up: more threads than that only
// wait.
std::optional<int> cgroup_cpus();

}  // namespace qtool
