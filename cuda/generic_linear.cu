#include "cuda/dispatch.h"
#include "cuda/generic_linear.h"
#include "cuda/launch.cuh"
#include "cuda/packed4.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 8;  // that share a decoded weight

// Weights as float32 values of the compute type T.
template <typename W, typename T>
struct DenseReader {
  const W* values;
  __device__ __forceinline__ float operator()(std::int64_t at) const {
    return rounded<T>(to_float(values[at]));
  }
};

template <typename T>
struct PackedReader {
  Packed4 packed;
  __device__ __forceinline__ float operator()(std::int64_t at) const {
    const int pair = packed.codes[at / 2];
    return rounded<T>(
        mul_ftz(packed.values[at % 2 == 0 ? pair >> 4 : pair & 15], packed.scale(at / packed.block_size)));
  }
};

template <typename Reader, typename T>
__global__ void __launch_bounds__(kThreads)
    generic_kernel(const __grid_constant__ Reader weight, const float* bias, std::int64_t out,
                   std::int64_t in, const T* x, std::int64_t tokens, T* y) {
  join_stream();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (row >= out) return;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kTokens;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(kTokens), tokens - first));
  float sums[kTokens] = {};
  for (std::int64_t column = threadIdx.x % 32; column < in; column += 32) {
    const float w = weight(row * in + column);
#pragma unroll
    for (int t = 0; t < kTokens; ++t)
      if (t < count) sums[t] = fmaf(w, to_float(x[(first + t) * in + column]), sums[t]);
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float sum = warp_sum(sums[t]);
    if (t < count && threadIdx.x % 32 == 0)
      y[(first + t) * out + row] = from_float<T>(sum + (bias ? bias[row] : 0.0f));
  }
}

}  // namespace

void generic_linear(const CudaLinear& linear, const void* x, std::int64_t tokens, void* y,
                    cudaStream_t stream) {
  const Launch shape{dim3(static_cast<unsigned>(ceil_div(linear.out, kThreads / 32)),
                          static_cast<unsigned>(ceil_div(tokens, kTokens))),
                     kThreads};
  with_type(linear.compute, [&](auto compute) {
    using T = typename decltype(compute)::Type;
    const auto run = [&](auto reader) {
      launch(generic_kernel<decltype(reader), T>, shape, stream, "a product", reader, linear.bias.as<float>(),
             linear.out, linear.in, static_cast<const T*>(x), tokens, static_cast<T*>(y));
    };
    if (linear.form == WeightForm::kDense)
      with_type(linear.dense_dtype, [&](auto dense) {
        using W = typename decltype(dense)::Type;
        run(DenseReader<W, T>{static_cast<const W*>(linear.weight())});
      });
    else
      run(PackedReader<T>{packed4_of(linear)});
  });
}

}  // namespace qtool::cuda
