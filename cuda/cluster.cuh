// What thread blocks of a cluster send into each other's shared memory (capability 9.0 and later). PTX ISA,
// sections "barrier.cluster", "mbarrier", "st.async".
//
// Floats travel one by one; the receiver's barrier counts their bytes. The cluster's own barrier could order
// memory too, but compiles to a fence of the whole device, which waits for every write before it.
#pragma once

#include <cuda_runtime_api.h>

namespace qtool::cuda {

// All threads of the cluster have come this far. Orders no memory but barriers that were made before.
__device__ __forceinline__ void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
__device__ __forceinline__ void await_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait;" ::: "memory");
#endif
}

// A barrier of 8 bytes in shared memory. A phase ends when one thread has said how many bytes to expect, and
// they have arrived.
__device__ __forceinline__ void make_receiver(unsigned barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(barrier)
               : "memory");
#endif
}
__device__ __forceinline__ void expect_bytes(unsigned barrier, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}
// Until the phase of this parity has ended; then its bytes can be read.
__device__ __forceinline__ void await_bytes(unsigned barrier, int parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}
// To the place `to` of thread block `rank`, whose `barrier` counts 4 bytes.
__device__ __forceinline__ void send(unsigned to, unsigned barrier, int rank, float value) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there, counter;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 counter, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [there], %3, [counter];\n"
      "}" ::"r"(to),
      "r"(barrier), "r"(rank), "r"(__float_as_uint(value))
      : "memory");
#endif
}

}  // namespace qtool::cuda
