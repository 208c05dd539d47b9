// The kernel table: which inner loops this machine can run, and which are chosen.
#pragma once

#include <span>

#include "core/cpu/cpu_backend.h"
#include "core/cpu/kernel_functions.h"

namespace qtool::cpu {

struct CpuKernels {
  const char* name;
  CpuLevel level;
  KernelFunctions functions;
};

// Every row that this machine can run, plainest first; the portable row, the truth, is always the first.
std::span<const CpuKernels> available_kernels();

// The best available row of at most `level`.
const CpuKernels& chosen_kernels(CpuLevel level);

}  // namespace qtool::cpu
