// What the processor and the operating system offer, asked in one place. The compiler's builtin also asks
// whether the wide registers are saved, but clang 14 does not know all of the names: those are read from the
// processor's own table.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace qtool::cpu {

#if defined(__x86_64__)
struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero for a leaf that the processor does not have.
inline CpuidRegisters cpuid(unsigned leaf, unsigned subleaf) {
  CpuidRegisters r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

constexpr bool bit_of(unsigned value, int bit) { return (value >> bit & 1u) != 0; }

inline bool has_avx2() {
  const bool f16c = bit_of(cpuid(1, 0).ecx, 29);
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
}

inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

// The tiles still have to be asked for.
inline bool has_amx_bf16() {
  const bool avx512_bf16 = bit_of(cpuid(7, 1).eax, 5);
  const unsigned features = cpuid(7, 0).edx;
  return has_avx512() && avx512_bf16 && bit_of(features, 24) && bit_of(features, 22);
}
#else
inline bool has_avx2() { return false; }
inline bool has_avx512() { return false; }
#endif

}  // namespace qtool::cpu
