#include <array>
#include <cstdlib>
#include <string>

#include "core/cpu/cpu_backend.h"
#include "core/cpu/cpu_features.h"
#include "core/error.h"

namespace qtool {

namespace {

constexpr std::array kLevels{CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512};

CpuLevel best_level() {
  if (cpu::has_avx512()) return CpuLevel::kAvx512;
  return cpu::has_avx2() ? CpuLevel::kAvx2 : CpuLevel::kPortable;
}

}  // namespace

const char* name_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::kPortable:
      return "portable";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512:
      return "avx512";
  }
  return "portable";
}

CpuLevel cpu_level() {
  const CpuLevel best = best_level();
  const char* asked = std::getenv("QTOOL_CPU");
  if (asked == nullptr || *asked == '\0') return best;
  for (const CpuLevel level : kLevels) {
    if (std::string(asked) != name_of(level)) continue;
    if (level > best)
      throw Error(ExitCode::kUsage, "QTOOL_CPU asks for " + std::string(asked) +
                                        ", but this processor has only " + name_of(best) +
                                        "; unset it to use what there is");
    return level;
  }
  throw Error(ExitCode::kUsage, "QTOOL_CPU is '" + escaped(asked) + "'; it can be portable, avx2 or avx512");
}

}  // namespace qtool
