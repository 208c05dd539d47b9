// The CPU as a device: the forward pass' operations and the quantizer, with kernels chosen at run time.
#pragma once

#include <memory>

#include "core/model/backend.h"
#include "core/quant/quantizer.h"

namespace qtool {

// Instruction sets that have kernels of their own, best last. $QTOOL_CPU=portable|avx2|avx512 forces a lower
// one.
enum class CpuLevel { kPortable, kAvx2, kAvx512 };
CpuLevel
cpu_level();  // what this machine has, or $QTOOL_CPU asks for; errors: kUsage when the machine lacks it
const char* name_of(CpuLevel level);

// `threads` 0: as many as OpenMP would take.
std::unique_ptr<Backend> make_cpu_backend(int threads);
// Serial: quantize runs one call per thread over pieces.
std::unique_ptr<Quantizer> make_cpu_quantizer();

}  // namespace qtool
