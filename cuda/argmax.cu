#include <cstdint>

#include "cuda/argmax.h"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 1024;

// The largest value so far and its column: the first of equals; -1 if any was NaN or +infinity.
struct Top {
  float value;
  int column;

  __device__ __forceinline__ void meet(float other, int at) {
    if (other > value || (other == value && at < column)) {
      value = other;
      column = at;
    }
  }
  __device__ __forceinline__ void see(float other, int at) {
    const bool finite = other < INFINITY;
    meet(finite ? other : INFINITY, finite ? at : -1);
  }
  __device__ __forceinline__ void join_warp() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
      meet(__shfl_xor_sync(0xffffffffu, value, offset), __shfl_xor_sync(0xffffffffu, column, offset));
  }
};

// Vectors of 16 bytes between the first and the last boundary of a row, single values before and after.
template <typename T>
__global__ void __launch_bounds__(kThreads) argmax_kernel(const T* x, int cols, std::int32_t* out) {
  using Unit = Vec<T>;
  constexpr int kSize = Unit::kCount;
  __shared__ Top tops[kThreads / 32];
  join_stream();
  const T* row = x + static_cast<std::int64_t>(blockIdx.x) * cols;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto beyond = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) / sizeof(T) % kSize);
  const int first = min((kSize - beyond) % kSize, cols), units = (cols - first) / kSize;
  const auto* vectors = reinterpret_cast<const Unit*>(row + first);
  Top top{-INFINITY, 0};
  if (thread < first) top.see(to_float(row[thread]), thread);
#pragma unroll 4
  for (int i = thread; i < units; i += kThreads) {
    const Unit unit = vectors[i];
#pragma unroll
    for (int j = 0; j < kSize; ++j) top.see(to_float(unit.values[j]), first + i * kSize + j);
  }
  const int last = first + units * kSize + thread;
  if (last < cols) top.see(to_float(row[last]), last);
  top.join_warp();
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  top = tops[threadIdx.x];
  top.join_warp();
  if (threadIdx.x == 0) out[blockIdx.x] = top.column;
}

}  // namespace

void argmax(Values x, std::int64_t rows, std::int64_t cols, const CudaIds& out, cudaStream_t stream) {
  with_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(argmax_kernel<T>, {dim3(static_cast<unsigned>(rows)), kThreads}, stream, "argmax",
           static_cast<const T*>(x.data), static_cast<int>(cols), out.memory.as<std::int32_t>());
  });
}

}  // namespace qtool::cuda
