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

}  // namespace qtool::cuda
