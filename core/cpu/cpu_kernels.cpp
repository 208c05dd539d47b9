#include "core/cpu/cpu_kernels.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <vector>

#include "core/cpu/cpu_features.h"

namespace qtool::cpu {

namespace {

#if defined(__x86_64__)
// Linux saves the tile registers, 8 KB a thread, only for processes that ask for it.
bool may_use_amx() {
  if (!has_amx_bf16()) return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::vector<CpuKernels> rows_that_run() {
  std::vector<CpuKernels> rows{{"portable", CpuLevel::kPortable, kPortableFunctions}};
#if defined(__x86_64__)
  if (has_avx2()) rows.push_back({"avx2", CpuLevel::kAvx2, kAvx2Functions});
  if (has_avx512()) {
    KernelFunctions functions = kAvx512Functions;
    rows.push_back({"avx512", CpuLevel::kAvx512, functions});
    if (may_use_amx()) {
      functions.direct4[1] = functions.direct4[0];
      functions.direct4[0] = &kAmxDirect4;
      rows.push_back({"amx", CpuLevel::kAvx512, functions});
    }
  }
#endif
  return rows;
}

}  // namespace

std::span<const CpuKernels> available_kernels() {
  static const std::vector<CpuKernels> rows = rows_that_run();
  return rows;
}

const CpuKernels& chosen_kernels(CpuLevel level) {
  const CpuKernels* best = &available_kernels().front();
  for (const CpuKernels& row : available_kernels())
    if (row.level <= level) best = &row;
  return *best;
}

}  // namespace qtool::cpu
