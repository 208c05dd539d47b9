// More of Hopper's own instructions, see hopper.cuh: clusters of thread blocks, copies of boxes of a matrix
// to several of them at once, and wgmma for 8-bit integers. PTX ISA, sections "mbarrier",
// "cp.async.bulk.tensor", "wgmma".
#pragma once

#include <cuda.h>

#include "cuda/hopper.cuh"

#if QTOOL_HAS_WGMMA
namespace qtool::cuda {

__device__ __forceinline__ unsigned rank_in_cluster() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void join_cluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// At the barrier with this address in the shared memory of the cluster's thread block `rank`. Tells that
// memory has been read, not that it has been written: a release to the cluster would wait for all stores.
__device__ __forceinline__ void arrive_at(unsigned barrier, unsigned rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ __forceinline__ void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The map's box at (column, row), to shared memory; `barrier` counts its bytes.
__device__ __forceinline__ void copy_box(unsigned to, const CUtensorMap* map, int column, int row,
                                         unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
// The same to all thread blocks of `mask`, at the same addresses in each.
__device__ __forceinline__ void copy_box_to(unsigned short mask, unsigned to, const CUtensorMap* map,
                                            int column, int row, unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(mask)
      : "memory");
}

__device__ __forceinline__ void prefetch_line(const void* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}
// All but the last kPending groups of products are done.
template <int kPending>
__device__ __forceinline__ void await_groups() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// All are done; `d` is what they computed.
template <int kCount>
__device__ __forceinline__ void await_sums(int (&d)[kCount]) {
  await_groups<0>();
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// d [64, kRows] = a [64, 32] * b [kRows, 32]^T + (keep ? d : 0), 8-bit integers with int32 sums. Thread
// 32w + 4g + t of the warpgroup has element (16w + g + 8h, 8j + 2t + i) in d[4j + 2h + i].
#define QTOOL_D8(i)                                                                           \
  "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3]), "+r"(d[i + 4]), "+r"(d[i + 5]), \
      "+r"(d[i + 6]), "+r"(d[i + 7])
#define QTOOL_D32(i) QTOOL_D8(i), QTOOL_D8(i + 8), QTOOL_D8(i + 16), QTOOL_D8(i + 24)
#define QTOOL_N16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define QTOOL_N32 QTOOL_N16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QTOOL_N64                                                                    \
  QTOOL_N32                                                                          \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define QTOOL_N96                                                                    \
  QTOOL_N64                                                                          \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define QTOOL_N128                                                                                     \
  QTOOL_N96                                                                                            \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112" \
  ", %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define QTOOL_WGMMA8(rows, numbers, a0, b0, keep0, ...)                                            \
  asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep0                                     \
               ", 0;\n"                                                                            \
               "wgmma.mma_async.sync.aligned.m64n" rows "k32.s32.s8.s8 {" numbers "}, " a0 ", " b0 \
               ", keep;\n}"                                                                        \
               : __VA_ARGS__                                                                       \
               : "l"(a), "l"(b), "r"(keep))

template <int kRows>
__device__ __forceinline__ void multiply8(int (&d)[kRows / 2], std::uint64_t a, std::uint64_t b, int keep) {
  if constexpr (kRows == 64)
    QTOOL_WGMMA8("64", QTOOL_N32, "%32", "%33", "%34", QTOOL_D32(0));
  else if constexpr (kRows == 128)
    QTOOL_WGMMA8("128", QTOOL_N64, "%64", "%65", "%66", QTOOL_D32(0), QTOOL_D32(32));
  else if constexpr (kRows == 192)
    QTOOL_WGMMA8("192", QTOOL_N96, "%96", "%97", "%98", QTOOL_D32(0), QTOOL_D32(32), QTOOL_D32(64));
  else
    QTOOL_WGMMA8("256", QTOOL_N128, "%128", "%129", "%130", QTOOL_D32(0), QTOOL_D32(32), QTOOL_D32(64),
                 QTOOL_D32(96));
}

#undef QTOOL_D8
#undef QTOOL_D32
#undef QTOOL_N16
#undef QTOOL_N32
#undef QTOOL_N64
#undef QTOOL_N96
#undef QTOOL_N128
#undef QTOOL_WGMMA8

}  // namespace qtool::cuda
#endif
