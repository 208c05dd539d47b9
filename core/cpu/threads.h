// How many threads there can be.
#pragma once

namespace qtool {

// At most `wanted`, at least 1: those that the system grants at the same time, within its limits on processes
// and on memory for stacks. They are started, so that OpenMP, which ends the program where a thread cannot be
// had, has them.
int start_threads(int wanted);

}  // namespace qtool
