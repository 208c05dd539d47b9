#include "cuda/dispatch.h"
#include "cuda/int8_linear.cuh"
#include "cuda/int8_linear.h"
#include "cuda/launch.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;

// Zeroes the mask that tokens then set bits in.
__global__ void clear_kernel(unsigned* mask, int words, int* count) {
  join_stream();
  for (int i = threadIdx.x; i < words; i += blockDim.x) mask[i] = 0;
  if (threadIdx.x == 0) *count = 0;
}

// One thread block a token: rounds to the layer's type and to half, quantizes
// by the largest that is no outlier, and marks the columns of its outliers.
template <typename From, typename T>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const From* x, float threshold, std::int64_t columns, std::int64_t stride,
                    Int8Inputs inputs) {
  __shared__ float scratch[kThreads / 32];
  join_stream();
  const std::int64_t token = blockIdx.x;
  T* typed = static_cast<T*>(inputs.typed) + token * columns;
  std::int8_t* codes = inputs.codes + token * stride;
  float top = 0.0f;
  for (std::int64_t i = threadIdx.x; i < columns; i += kThreads) {
    const T value = from_float<T>(to_float(x[token * columns + i]));
    typed[i] = value;
    const float magnitude = fabsf(rounded<__half>(to_float(value)));
    if (threshold > 0.0f && magnitude >= threshold)
      atomicOr(&inputs.outlier_mask[i / 32], 1u << (i % 32));
    else if (magnitude > top)
      top = magnitude;
  }
  top = block_max<kThreads>(top, scratch);
  if (threadIdx.x == 0) inputs.absmax[token] = top;
  const float scale = __fmul_rn(127.0f, reciprocal_ftz(top));
  for (std::int64_t i = threadIdx.x; i < stride; i += kThreads) {
    int code = 0;
    if (i < columns) {
      const float half = rounded<__half>(to_float(typed[i]));
      const float scaled = __fmul_rn(half, scale);
      const bool counts = scaled == scaled && !(threshold > 0.0f && fabsf(half) >= threshold);
      if (counts) code = __float2int_rn(scaled);
    }
    codes[i] = static_cast<std::int8_t>(code);
  }
}

// One thread block: lists the marked columns in order.
__global__ void __launch_bounds__(kThreads) list_kernel(Int8Inputs inputs, int words) {
  __shared__ int before[kThreads];
  join_stream();
  const int per_thread = (words + kThreads - 1) / kThreads;
  const int begin = min(static_cast<int>(threadIdx.x) * per_thread, words),
            end = min(begin + per_thread, words);
  int mine = 0;
  for (int i = begin; i < end; ++i) mine += __popc(inputs.outlier_mask[i]);
  before[threadIdx.x] = mine;
  __syncthreads();
  int at = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) at += before[i];
  if (threadIdx.x == kThreads - 1) *inputs.outlier_count = at + mine;
  for (int i = begin; i < end; ++i)
    for (unsigned bits = inputs.outlier_mask[i]; bits != 0; bits &= bits - 1)
      inputs.outlier_columns[at++] = i * 32 + __ffs(static_cast<int>(bits)) - 1;
}

// Outlier columns leave the integer product, for all tokens.
__global__ void erase_kernel(Int8Inputs inputs, std::int64_t tokens, std::int64_t stride) {
  join_stream();
  const int count = *inputs.outlier_count;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < tokens * count;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads)
    inputs.codes[i / count * stride + inputs.outlier_columns[i % count]] = 0;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    results_kernel(Int8Inputs inputs, const __grid_constant__ Int8Results r) {
  join_stream();
  const OutlierView outliers{inputs.outlier_count, inputs.outlier_columns, inputs.typed,
                             static_cast<int>(r.columns)};
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < r.tokens * r.out;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t token = i / r.out, row = i % r.out;
    int sum = 0;
    if (r.sums) {
      sum = r.sums[i];
    } else {
      for (std::int64_t c = 0; c < r.columns; ++c)
        sum += static_cast<int>(r.weight[row * r.columns + c]) * inputs.codes[token * r.stride + c];
    }
    const float value =
        int8_value(sum, inputs.absmax[token], r.row_absmax[row], r.bias ? r.bias + row : nullptr, r.type);
    static_cast<T*>(r.y)[i] =
        from_float<T>(add_outliers(value, outliers, r.weight, row, r.row_absmax[row], token, r.type));
  }
}

}  // namespace

void int8_inputs(Values x, DType type, float threshold, std::int64_t tokens, std::int64_t columns,
                 std::int64_t stride, const Int8Inputs& inputs, cudaStream_t stream) {
  const int words = static_cast<int>(ceil_div(columns, 32));
  launch(clear_kernel, {dim3(1), kThreads}, stream, "int8 inputs", inputs.outlier_mask, words,
         inputs.outlier_count);
  with_type(x.dtype, [&](auto from) {
    with_type(type, [&](auto to) {
      using From = typename decltype(from)::Type;
      using T = typename decltype(to)::Type;
      launch(quantize_kernel<From, T>, {dim3(static_cast<unsigned>(tokens)), kThreads}, stream, "int8 inputs",
             static_cast<const From*>(x.data), threshold, columns, stride, inputs);
    });
  });
  if (threshold <= 0.0f) return;
  launch(list_kernel, {dim3(1), kThreads}, stream, "outlier columns", inputs, words);
  launch(erase_kernel, {dim3(64), kThreads}, stream, "outlier columns", inputs, tokens, stride);
}

void int8_results(const Int8Inputs& inputs, const Int8Results& results, cudaStream_t stream) {
  constexpr std::int64_t kMaxGrid = 4096;
  with_type(results.type, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(results_kernel<T>,
           {dim3(static_cast<unsigned>(std::min(ceil_div(results.tokens * results.out, kThreads), kMaxGrid))),
            kThreads},
           stream, "int8 results", inputs, results);
  });
}

}  // namespace qtool::cuda
