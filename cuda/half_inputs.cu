#include "cuda/activate.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/pointwise.h"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kStep = kThreads * 4;  // columns: a thread has vectors of 4
constexpr int kMostVectors = 24;

// Where a token's 4 columns from `column` on lie among wide inputs: the first two of them and the last two,
// in bytes of their row. Of 64 columns, a product of 16 takes from each of 4 runs of 8 columns (lane columns,
// see tiles4.h) one half: two columns for its first 16-byte piece, two for its second.
struct WidePlace {
  std::int64_t row;
  int low, high;

  __device__ WidePlace(std::int64_t token, int column, std::int64_t tokens)
      : row((column / 64 * tokens + token) * 128) {
    const int product = column / 32 % 2 * 2 + column / 4 % 2;  // of 16 columns
    const int piece = product * 2, exchanged = static_cast<int>(token) & 7, at = column / 8 % 4 * 4;
    low = (piece ^ exchanged) * 16 + at;
    high = ((piece + 1) ^ exchanged) * 16 + at;
  }
};

// One thread block a token, whose values stay in registers.
template <typename T, typename W, typename Compute, int kVectors>
__global__ void __launch_bounds__(kThreads) half_inputs_kernel(const __grid_constant__ HalfInputs p) {
  __shared__ float sums[kThreads / 32], tops[kThreads / 32];
  const auto cols = static_cast<int>(p.cols);
  const auto column = [](int v) { return static_cast<int>(threadIdx.x) * 4 + v * kStep; };
  const bool norm = p.source == Source::kNorm;
  float values[kVectors][4];
  let_successor_start();
  Vec<W, 4> weights[kVectors];
  if (norm)
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < cols)
        weights[v] = *reinterpret_cast<const Vec<W, 4>*>(static_cast<const W*>(p.weight.data) + column(v));
  wait_for_predecessor();
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.x.data) + row * p.cols;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    Vec<T, 4> raw{};
    if (column(v) < cols) raw = *reinterpret_cast<const Vec<T, 4>*>(x + column(v));
#pragma unroll
    for (int j = 0; j < 4; ++j) values[v][j] = to_float(raw.values[j]);
  }
  if (norm) {
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int j = 0; j < 4; ++j) sum += values[v][j] * values[v][j];
    const float factor = 1.0f / sqrtf(block_sum<kThreads>(sum, sums) / static_cast<float>(cols) + p.eps);
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < cols)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          values[v][j] = (to_float(weights[v].values[j]) + p.weight_offset) * (values[v][j] * factor);
  }
  if (p.source == Source::kGated) {
    const T* up = static_cast<const T*>(p.up.data) + row * p.cols;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (column(v) >= cols) continue;
      const auto raw = *reinterpret_cast<const Vec<T, 4>*>(up + column(v));
#pragma unroll
      for (int j = 0; j < 4; ++j)
        values[v][j] = activate(values[v][j], p.activation) * to_float(raw.values[j]);
    }
  }
  float top = 0.0f;
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[v][j] = rounded<Compute>(values[v][j]);
      top = fmaxf(top, fabsf(values[v][j]));
    }
  const float power = power_for(block_max<kThreads>(top, tops));
  if (threadIdx.x == 0) p.scales[row] = 1.0f / power;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (column(v) >= p.padded) continue;
    const __half2 pairs[2] = {__floats2half2_rn(values[v][0] * power, values[v][1] * power),
                              __floats2half2_rn(values[v][2] * power, values[v][3] * power)};
    if (p.wide_tokens > 0) {
      const WidePlace place(row, column(v), p.wide_tokens);
      char* to = static_cast<char*>(p.out) + place.row;
      *reinterpret_cast<__half2*>(to + place.low) = pairs[0];
      *reinterpret_cast<__half2*>(to + place.high) = pairs[1];
    } else {
      *reinterpret_cast<uint2*>(static_cast<__half*>(p.out) + row * p.padded + column(v)) =
          *reinterpret_cast<const uint2*>(pairs);
    }
  }
}

template <int kVectors>
void run(const HalfInputs& problem, cudaStream_t stream) {
  const auto start = [&](auto x, auto weight) {
    using T = typename decltype(x)::Type;
    using W = typename decltype(weight)::Type;
    auto* kernel = problem.compute == DType::kF16 ? half_inputs_kernel<T, W, __half, kVectors>
                                                  : half_inputs_kernel<T, W, __nv_bfloat16, kVectors>;
    launch(kernel, {dim3(static_cast<unsigned>(problem.rows)), kThreads}, stream, "inputs of 4-bit products",
           problem);
  };
  if (problem.source == Source::kNorm)
    with_type(problem.weight.dtype, [&](auto weight) { start(TypeTag<float>{}, weight); });
  else
    with_type(problem.x.dtype, [&](auto x) { start(x, TypeTag<float>{}); });
}

}  // namespace

void half_inputs(const HalfInputs& problem, cudaStream_t stream) {
  if (problem.rows == 0) return;
  if (problem.padded <= kStep) return run<1>(problem, stream);
  if (problem.padded <= 3 * kStep) return run<3>(problem, stream);
  run<kMostVectors>(problem, stream);
}

}  // namespace qtool::cuda
