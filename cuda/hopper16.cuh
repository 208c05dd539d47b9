// More of Hopper's own instructions, see hopper.cuh: copies of boxes of a tensor with three dimensions, and
// wgmma for 16-bit values whose operands both change. Device code of sm_90a only. PTX ISA, sections
// "cp.async.bulk.tensor", "wgmma".
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

#include "cuda/hopper.cuh"

namespace qtool::cuda {

// What threads stored in shared memory, copies and products see after this and a barrier.
__device__ __forceinline__ void publish_stores() {
#if QTOOL_HAS_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// The map's box at (x, y, z), innermost first; `barrier` counts its bytes. What lies outside the tensor is 0.
__device__ __forceinline__ void copy_box3(unsigned to, const CUtensorMap& map, int x, int y, int z,
                                          unsigned barrier) {
#if QTOOL_HAS_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier)
      : "memory");
#endif
}

// Lets `threads` go on that wait at barrier `name` of synchronize(), without waiting.
__device__ __forceinline__ void announce(int name, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// Like operand_at(), of values that products run along: 16 rows of 64 columns each for a product, whose
// columns go on `further` bytes behind.
__device__ __forceinline__ std::uint64_t transposed_at(unsigned at, unsigned further) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62, kEightRows = std::uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kEightRows | static_cast<std::uint64_t>(further >> 4) << 16 | ((at & 0x3ffff) >> 4);
}

// kCount numbers of 32 bits stay where they are: nothing that uses them moves across.
template <int kCount>
__device__ __forceinline__ void hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kPending>
__device__ __forceinline__ void await_groups_of_products() {
#if QTOOL_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}

// clang-format off
#define QTOOL_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
                    "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define QTOOL_D32(i) QTOOL_D8(i), QTOOL_D8(i + 8), QTOOL_D8(i + 16), QTOOL_D8(i + 24)
#define QTOOL_N32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QTOOL_N64 QTOOL_N32 \
                  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define QTOOL_SHARED(columns, type, numbers, a0, b0, keep0, ...)                                          \
  asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep0 ", 0;\n"                                   \
               "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" numbers "}, "    \
               a0 ", " b0 ", keep, 1, 1, 0, 0;\n}"                                                        \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(keep))
#define QTOOL_TRANSPOSED(columns, type, numbers, a0, a1, a2, a3, b0, ...)                                 \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" numbers "}, {"   \
               a0 ", " a1 ", " a2 ", " a3 "}, " b0 ", 1, 1, 1, 1;"                                        \
               : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
// clang-format on

// d [64, n] = a [64, 16] * b [n, 16]^T + (keep ? d : 0) for n of 64 and 128, both in shared memory. A thread
// holds of d as many tiles of 8 columns as mma.m16n8 has.
template <typename T, int kCount>
__device__ __forceinline__ void multiply_shared(float (&d)[kCount], std::uint64_t a, std::uint64_t b,
                                                int keep) {
  static_assert(kCount == 32 || kCount == 64);
#if QTOOL_HAS_WGMMA
  if constexpr (kCount == 32 && __is_same(T, __half))
    QTOOL_SHARED("64", "f16", QTOOL_N32, "%32", "%33", "%34", QTOOL_D32(0));
  else if constexpr (kCount == 32)
    QTOOL_SHARED("64", "bf16", QTOOL_N32, "%32", "%33", "%34", QTOOL_D32(0));
  else if constexpr (__is_same(T, __half))
    QTOOL_SHARED("128", "f16", QTOOL_N64, "%64", "%65", "%66", QTOOL_D32(0), QTOOL_D32(32));
  else
    QTOOL_SHARED("128", "bf16", QTOOL_N64, "%64", "%65", "%66", QTOOL_D32(0), QTOOL_D32(32));
#endif
}

// d [64, n] += a [64, 16] * b [16, n]; `a` in registers as mma.m16n8k16 wants it, `b` from transposed_at().
template <typename T, int kCount>
__device__ __forceinline__ void multiply_transposed(float (&d)[kCount], const unsigned (&a)[4],
                                                    std::uint64_t b) {
  static_assert(kCount == 32 || kCount == 64);
#if QTOOL_HAS_WGMMA
  if constexpr (kCount == 32 && __is_same(T, __half))
    QTOOL_TRANSPOSED("64", "f16", QTOOL_N32, "%32", "%33", "%34", "%35", "%36", QTOOL_D32(0));
  else if constexpr (kCount == 32)
    QTOOL_TRANSPOSED("64", "bf16", QTOOL_N32, "%32", "%33", "%34", "%35", "%36", QTOOL_D32(0));
  else if constexpr (__is_same(T, __half))
    QTOOL_TRANSPOSED("128", "f16", QTOOL_N64, "%64", "%65", "%66", "%67", "%68", QTOOL_D32(0), QTOOL_D32(32));
  else
    QTOOL_TRANSPOSED("128", "bf16", QTOOL_N64, "%64", "%65", "%66", "%67", "%68", QTOOL_D32(0),
                     QTOOL_D32(32));
#endif
}

#undef QTOOL_D8
#undef QTOOL_D32
#undef QTOOL_N32
#undef QTOOL_N64
#undef QTOOL_SHARED
#undef QTOOL_TRANSPOSED

}  // namespace qtool::cuda
