// Hopper's own instructions: barriers that count the bytes of bulk copies, and wgmma, by which a warpgroup of
// 4 warps multiplies 64 rows at a time. Device code of sm_90a only, see QTOOL_HAS_WGMMA. PTX ISA, sections
// "mbarrier", "cp.async.bulk", "wgmma".
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QTOOL_HAS_WGMMA 1
#else
#define QTOOL_HAS_WGMMA 0
#endif

namespace qtool::cuda {

__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// --- barriers in shared memory, by address; a phase ends when `arrivals` have come and all bytes they
// expect have arrived
__device__ __forceinline__ void make_barrier(unsigned barrier, unsigned arrivals) {
#if QTOOL_HAS_WGMMA
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
#endif
}
// Other threads of the block, and the copy engine, see barriers made before.
__device__ __forceinline__ void publish_barriers() {
#if QTOOL_HAS_WGMMA
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void arrive(unsigned barrier) {
#if QTOOL_HAS_WGMMA
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#endif
}
__device__ __forceinline__ void arrive_expecting(unsigned barrier, unsigned bytes) {
#if QTOOL_HAS_WGMMA
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}
// Until the phase of this parity has ended.
__device__ __forceinline__ void await_phase(unsigned barrier, unsigned parity) {
#if QTOOL_HAS_WGMMA
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

// `bytes`, a multiple of 16 at addresses of 16, from device memory; `barrier` counts them.
__device__ __forceinline__ void bulk_copy(unsigned to, const void* from, unsigned bytes, unsigned barrier) {
#if QTOOL_HAS_WGMMA
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}
// 16 bytes: with evict_first(), nobody reads them again soon, and they make room in the L2 cache first.
__device__ __forceinline__ void copy16_streaming(unsigned to, const void* from, std::uint64_t policy) {
#if QTOOL_HAS_WGMMA
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "l"(policy));
#endif
}
// One of the arrivals of `barrier`, once all this thread has copied so far is there.
__device__ __forceinline__ void arrive_after_copies(unsigned barrier) {
#if QTOOL_HAS_WGMMA
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
#endif
}
__device__ __forceinline__ std::uint64_t evict_normally() {
  std::uint64_t policy = 0;
#if QTOOL_HAS_WGMMA
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}
__device__ __forceinline__ std::uint64_t evict_first() {
  std::uint64_t policy = 0;
#if QTOOL_HAS_WGMMA
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}

// A flag in device memory. Whoever awaits it sees what came before it, also other threads' work before a
// barrier with them, and takes it down again.
__device__ __forceinline__ void raise_flag(unsigned* flag) {
  asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(flag) : "memory");
}
__device__ __forceinline__ void await_flag(unsigned* flag) {
  unsigned raised = 0;
  while (raised == 0)
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(raised) : "l"(flag) : "memory");
  *flag = 0;
}

// Among the `threads` that name barrier `name`, 1 to 15.
__device__ __forceinline__ void synchronize(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

// From now on the threads of this warpgroup have so many registers each: fewer, or more than they began with.
template <int kCount>
__device__ __forceinline__ void give_registers() {
#if QTOOL_HAS_WGMMA
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
#if QTOOL_HAS_WGMMA
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}

// --- wgmma
__device__ __forceinline__ void begin_products() {
#if QTOOL_HAS_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void end_products() {
#if QTOOL_HAS_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// All but the last kPending groups are done; `d` is what they computed.
template <int kPending, int kCount>
__device__ __forceinline__ void await_products(float (&d)[kCount]) {
#if QTOOL_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

// What wgmma is told of an operand in shared memory whose rows of 128 bytes lie one after the other, their
// 16-byte pieces exchanged: piece p of row r at p ^ (r & 7). `at` is a multiple of 1024 for row 0; 32 bytes
// further lie the next 16 columns.
__device__ __forceinline__ std::uint64_t operand_at(unsigned at) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62, kEightRows = std::uint64_t{1024 >> 4} << 32,
                          kUnused = std::uint64_t{1} << 16;
  return kSwizzle128 | kEightRows | kUnused | ((at & 0x3ffff) >> 4);
}

// d [64, kTokens] = a [64, 16] * b [16, kTokens] + (keep ? d : 0), half precision with float32 sums. A thread
// holds of d as many tiles of 8 columns as mma.m16n8 has, and of a what mma.m16n8k16 wants.
#define QTOOL_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define QTOOL_D8(i) QTOOL_D4(i), QTOOL_D4(i + 4)
#define QTOOL_D16(i) QTOOL_D8(i), QTOOL_D8(i + 8)
#define QTOOL_D32(i) QTOOL_D16(i), QTOOL_D16(i + 16)
#define QTOOL_N4 "%0, %1, %2, %3"
#define QTOOL_N8 QTOOL_N4 ", %4, %5, %6, %7"
#define QTOOL_N16 QTOOL_N8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define QTOOL_N32 QTOOL_N16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QTOOL_WGMMA(tokens, numbers, sums, a0, a1, a2, a3, b0, keep0)                                   \
  asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, " keep0                                          \
               ", 0;\n"                                                                                 \
               "wgmma.mma_async.sync.aligned.m64n" tokens "k16.f32.f16.f16 {" numbers "}, {" a0 ", " a1 \
               ", " a2 ", " a3 "}, " b0 ", keep, 1, 1, 0;\n}"                                           \
               : sums                                                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep))

template <int kTokens>
__device__ __forceinline__ void multiply(float (&d)[kTokens / 2], const unsigned (&a)[4], std::uint64_t b,
                                         int keep) {
#if QTOOL_HAS_WGMMA
  if constexpr (kTokens == 8)
    QTOOL_WGMMA("8", QTOOL_N4, QTOOL_D4(0), "%4", "%5", "%6", "%7", "%8", "%9");
  else if constexpr (kTokens == 16)
    QTOOL_WGMMA("16", QTOOL_N8, QTOOL_D8(0), "%8", "%9", "%10", "%11", "%12", "%13");
  else if constexpr (kTokens == 32)
    QTOOL_WGMMA("32", QTOOL_N16, QTOOL_D16(0), "%16", "%17", "%18", "%19", "%20", "%21");
  else
    QTOOL_WGMMA("64", QTOOL_N32, QTOOL_D32(0), "%32", "%33", "%34", "%35", "%36", "%37");
#endif
}

#undef QTOOL_D4
#undef QTOOL_D8
#undef QTOOL_D16
#undef QTOOL_D32
#undef QTOOL_N4
#undef QTOOL_N8
#undef QTOOL_N16
#undef QTOOL_N32
#undef QTOOL_WGMMA

}  // namespace qtool::cuda
