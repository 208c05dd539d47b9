#include <algorithm>

#include "cuda/activate.cuh"
#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/pointwise.h"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxGrid = 4096;  // grids stride: more thread blocks than run at once gain nothing

unsigned grid_for(std::int64_t threads) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(threads, kThreads), 1, kMaxGrid));
}

__device__ __forceinline__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}
__device__ __forceinline__ std::int64_t stride() { return static_cast<std::int64_t>(gridDim.x) * kThreads; }

// kGated: times `up`.
template <typename T, bool kGated>
__global__ void gate_kernel(T* gate, const T* up, Activation activation, std::int64_t count) {
  join_stream();
  constexpr int kSize = Vec<T>::kCount;
  const std::int64_t whole = count / kSize;
  for (std::int64_t v = first_index(); v < whole; v += stride()) {
    Vec<T> g = reinterpret_cast<const Vec<T>*>(gate)[v], u{};
    if constexpr (kGated) u = reinterpret_cast<const Vec<T>*>(up)[v];
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float value = activate(to_float(g.values[i]), activation);
      g.values[i] = from_float<T>(kGated ? value * to_float(u.values[i]) : value);
    }
    reinterpret_cast<Vec<T>*>(gate)[v] = g;
  }
  for (std::int64_t i = whole * kSize + first_index(); i < count; i += stride()) {
    const float value = activate(to_float(gate[i]), activation);
    gate[i] = from_float<T>(kGated ? value * to_float(up[i]) : value);
  }
}

template <typename T>
__global__ void add_kernel(float* x, const T* y, float scale, std::int64_t count) {
  join_stream();
  constexpr int kSize = 4;
  const std::int64_t whole = count / kSize;
  for (std::int64_t v = first_index(); v < whole; v += stride()) {
    Vec<float> sum = reinterpret_cast<const Vec<float>*>(x)[v];
    const Vec<T, kSize> more = reinterpret_cast<const Vec<T, kSize>*>(y)[v];
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum.values[i] += scale * to_float(more.values[i]);
    reinterpret_cast<Vec<float>*>(x)[v] = sum;
  }
  for (std::int64_t i = whole * kSize + first_index(); i < count; i += stride())
    x[i] += scale * to_float(y[i]);
}

template <typename T>
__global__ void change_kernel(T* x, Change change, float number, std::int64_t count) {
  join_stream();
  for (std::int64_t i = first_index(); i < count; i += stride()) {
    float value = to_float(x[i]);
    switch (change) {
      case Change::kScale:
        value *= number;
        break;
      case Change::kClamp:  // leaves NaN
        value = value > number ? number : value < -number ? -number : value;
        break;
      case Change::kSoftcap:
        value = number * tanhf(value / number);
        break;
    }
    x[i] = from_float<T>(value);
  }
}

template <typename From, typename To>
__global__ void convert_kernel(const From* in, std::int64_t count, To* out) {
  join_stream();
  for (std::int64_t i = first_index(); i < count; i += stride()) out[i] = from_float<To>(to_float(in[i]));
}

template <typename T>
__global__ void bias_kernel(T* x, const float* bias, std::int64_t rows, std::int64_t cols) {
  join_stream();
  for (std::int64_t i = first_index(); i < rows * cols; i += stride())
    x[i] = from_float<T>(to_float(x[i]) + bias[i % cols]);
}

constexpr int kArgmaxThreads = 1024;

template <typename T>
__global__ void __launch_bounds__(kArgmaxThreads)
    argmax_kernel(const T* x, std::int64_t cols, std::int32_t* out) {
  __shared__ float tops[kArgmaxThreads];
  __shared__ int columns[kArgmaxThreads];
  join_stream();
  const T* row = x + blockIdx.x * cols;
  float top = -INFINITY;
  int column = 0;
  for (std::int64_t i = threadIdx.x; i < cols; i += kArgmaxThreads) {
    const float value = to_float(row[i]);
    if (!(value < INFINITY)) {  // nor is NaN
      top = INFINITY;
      column = -1;
    } else if (value > top) {
      top = value;
      column = static_cast<int>(i);
    }
  }
  tops[threadIdx.x] = top;
  columns[threadIdx.x] = column;
  for (unsigned half = kArgmaxThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    const float other = tops[threadIdx.x + half];
    const int place = columns[threadIdx.x + half];
    if (other > tops[threadIdx.x] || (other == tops[threadIdx.x] && place < columns[threadIdx.x])) {
      tops[threadIdx.x] = other;
      columns[threadIdx.x] = place;
    }
  }
  if (threadIdx.x == 0) out[blockIdx.x] = columns[0];
}

constexpr int kHalfThreads = 512;

// One thread block a token. The rounded inputs wait in shared memory for the
// token's largest.
template <typename T, typename W, typename Compute>
__global__ void __launch_bounds__(kHalfThreads) half_inputs_kernel(const __grid_constant__ HalfInputs p) {
  extern __shared__ __align__(16) char memory[];
  auto* held = reinterpret_cast<Compute*>(memory);  // [cols]
  __shared__ float sums[kHalfThreads / 32], tops[kHalfThreads / 32];
  join_stream();
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.x.data) + row * p.cols;
  const T* up = static_cast<const T*>(p.up.data) + (p.source == Source::kGated ? row * p.cols : 0);
  const W* weight = static_cast<const W*>(p.weight.data);
  const auto cols = static_cast<int>(p.cols), padded = static_cast<int>(p.padded);
  float factor = 1.0f;
  if (p.source == Source::kNorm) {
    float sum = 0.0f;
    for (int i = threadIdx.x * 4; i < cols; i += kHalfThreads * 4) {
      const auto v = *reinterpret_cast<const Vec<T, 4>*>(x + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) sum += to_float(v.values[j]) * to_float(v.values[j]);
    }
    factor = 1.0f / sqrtf(block_sum<kHalfThreads>(sum, sums) / static_cast<float>(cols) + p.eps);
  }
  float top = 0.0f;
  for (int i = threadIdx.x * 4; i < cols; i += kHalfThreads * 4) {
    const auto v = *reinterpret_cast<const Vec<T, 4>*>(x + i);
    Vec<Compute, 4> kept;
    Vec<T, 4> u{};
    if (p.source == Source::kGated) u = *reinterpret_cast<const Vec<T, 4>*>(up + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float value = to_float(v.values[j]);
      if (p.source == Source::kNorm) value = (to_float(weight[i + j]) + p.weight_offset) * (value * factor);
      if (p.source == Source::kGated) value = activate(value, p.activation) * to_float(u.values[j]);
      kept.values[j] = from_float<Compute>(value);
      top = fmaxf(top, fabsf(to_float(kept.values[j])));
    }
    *reinterpret_cast<Vec<Compute, 4>*>(held + i) = kept;
  }
  const float power = power_for(block_max<kHalfThreads>(top, tops));
  if (threadIdx.x == 0) p.scales[row] = 1.0f / power;
  __half* out = static_cast<__half*>(p.out) + row * padded;
  for (int i = threadIdx.x * 4; i < padded; i += kHalfThreads * 4) {  // each thread reads what it wrote
    Vec<__half, 4> result;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      result.values[j] = i < cols ? __float2half_rn(to_float(held[i + j]) * power) : __half(0.0f);
    *reinterpret_cast<Vec<__half, 4>*>(out + i) = result;
  }
}

}  // namespace

void gate(Values gate, Values up, Activation activation, std::int64_t count, cudaStream_t stream) {
  with_type(gate.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(up.data ? gate_kernel<T, true> : gate_kernel<T, false>,
           {dim3(grid_for(count / Vec<T>::kCount)), kThreads}, stream, "gate", static_cast<T*>(gate.data),
           static_cast<const T*>(up.data), activation, count);
  });
}

void add(float* x, Values y, float scale, std::int64_t count, cudaStream_t stream) {
  with_type(y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(add_kernel<T>, {dim3(grid_for(count / 4)), kThreads}, stream, "residual", x,
           static_cast<const T*>(y.data), scale, count);
  });
}

void change(Values x, Change how, float number, std::int64_t count, cudaStream_t stream) {
  with_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(change_kernel<T>, {dim3(grid_for(count)), kThreads}, stream, "changing values",
           static_cast<T*>(x.data), how, number, count);
  });
}

void convert(Values in, std::int64_t count, Values out, cudaStream_t stream) {
  with_type(in.dtype, [&](auto from) {
    with_type(out.dtype, [&](auto to) {
      using From = typename decltype(from)::Type;
      using To = typename decltype(to)::Type;
      launch(convert_kernel<From, To>, {dim3(grid_for(count)), kThreads}, stream, "conversion",
             static_cast<const From*>(in.data), count, static_cast<To*>(out.data));
    });
  });
}

void add_bias(Values x, const float* bias, std::int64_t rows, std::int64_t cols, cudaStream_t stream) {
  with_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(bias_kernel<T>, {dim3(grid_for(rows * cols)), kThreads}, stream, "bias", static_cast<T*>(x.data),
           bias, rows, cols);
  });
}

void argmax(Values x, std::int64_t rows, std::int64_t cols, std::int32_t* out, cudaStream_t stream) {
  with_type(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(argmax_kernel<T>, {dim3(static_cast<unsigned>(rows)), kArgmaxThreads}, stream, "argmax",
           static_cast<const T*>(x.data), cols, out);
  });
}

void half_inputs(const HalfInputs& problem, cudaStream_t stream) {
  if (problem.rows == 0) return;
  const Launch shape{dim3(static_cast<unsigned>(problem.rows)), kHalfThreads, problem.cols * 2};
  const auto run = [&](auto x, auto weight) {
    using T = typename decltype(x)::Type;
    using W = typename decltype(weight)::Type;
    auto* kernel = problem.compute == DType::kF16 ? half_inputs_kernel<T, W, __half>
                                                  : half_inputs_kernel<T, W, __nv_bfloat16>;
    if (shape.shared_bytes > 48 * 1024)
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes)),
            "asking for shared memory");
    launch(kernel, shape, stream, "inputs of 4-bit products", problem);
  };
  if (problem.source == Source::kNorm)
    with_type(problem.weight.dtype, [&](auto weight) { run(TypeTag<float>{}, weight); });
  else
    with_type(problem.x.dtype, [&](auto x) { run(x, TypeTag<float>{}); });
}

}  // namespace qtool::cuda
