#include <algorithm>

#include "cuda/dispatch.h"
#include "cuda/int8_linear.cuh"
#include "cuda/int8_linear.h"
#include "cuda/launch.cuh"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kQuantizing = 4;     // thread blocks of a multiprocessor
constexpr unsigned kErasing = 64;  // thread blocks, mostly for nothing

constexpr int kVector = 8;  // values that a thread takes at once

// Values in half precision, and which of them are outliers.
struct Eight {
  __half2 pairs[kVector / 2];

  __device__ __forceinline__ float operator[](int k) const {
    return k % 2 == 0 ? __low2float(pairs[k / 2]) : __high2float(pairs[k / 2]);
  }
  // The largest magnitude; NaN if there is one.
  __device__ __forceinline__ float top() const {
    __half2 most = __habs2(pairs[0]);
#pragma unroll
    for (int i = 1; i < kVector / 2; ++i) most = max_nan(most, __habs2(pairs[i]));
    most = max_nan(most, __lowhigh2highlow(most));
    return __low2float(most);
  }

 private:
  static __device__ __forceinline__ __half2 max_nan(__half2 a, __half2 b) {
#if __CUDA_ARCH__ >= 800
    return __hmax2_nan(a, b);
#else
    const float2 x = __half22float2(a), y = __half22float2(b);
    return __floats2half2_rn(x.x > y.x || x.x != x.x ? x.x : y.x, x.y > y.y || x.y != x.y ? x.y : y.y);
#endif
  }
};

// Values 8i .. 8i + 7 of a row, zeros beyond its columns. kWhole: columns are a multiple of 8.
template <bool kWhole, typename T>
__device__ __forceinline__ Eight load_eight(const T* row, int i, int columns) {
  Vec<T, kVector> some{};
  if constexpr (kWhole) {
    if (i * kVector < columns) some = reinterpret_cast<const Vec<T, kVector>*>(row)[i];
  } else {
    for (int k = 0; k < kVector; ++k)
      if (i * kVector + k < columns) some.values[k] = row[i * kVector + k];
  }
  Eight eight;
#pragma unroll
  for (int k = 0; k < kVector; k += 2)
    eight.pairs[k / 2] = __floats2half2_rn(to_float(some.values[k]), to_float(some.values[k + 1]));
  return eight;
}

// The codes of values that are neither NaN nor outliers, by rounding where the last bit is 1: the sum's
// lowest bits are the nearest integer's.
__device__ __forceinline__ unsigned four_codes(const Eight& values, int first, float scale) {
  constexpr float kOnes = 12582912.0f;  // 1.5 * 2^23
  unsigned bits[4];
#pragma unroll
  for (int k = 0; k < 4; ++k)
    bits[k] = __float_as_uint(__fadd_rn(__fmul_rn(values[first + k], scale), kOnes));
  return __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
}

// By the last thread block to come: lists the marked columns in order, and leaves the marks as it found them.
__device__ __forceinline__ void list_marked(const Int8Inputs& inputs, int words) {
  __shared__ int before[kThreads];
  unsigned* marks = inputs.marks + 1;
  const int per_thread = (words + kThreads - 1) / kThreads;
  const int begin = min(static_cast<int>(threadIdx.x) * per_thread, words),
            end = min(begin + per_thread, words);
  int mine = 0;
  for (int i = begin; i < end; ++i) mine += __popc(__ldcg(marks + i));
  before[threadIdx.x] = mine;
  __syncthreads();
  int at = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) at += before[i];
  if (threadIdx.x == kThreads - 1) *inputs.outlier_count = at + mine;
  for (int i = begin; i < end; ++i) {
    for (unsigned bits = __ldcg(marks + i); bits != 0; bits &= bits - 1)
      inputs.outlier_columns[at++] = i * 32 + __ffs(static_cast<int>(bits)) - 1;
    marks[i] = 0;
  }
  if (threadIdx.x == 0) inputs.marks[0] = 0;
}

// A thread block at a time has a token: finds the largest that is no outlier, marks the columns of its
// outliers, and quantizes. A thread keeps 8 * kHeld values from one reading to the other, or, if that is 0,
// reads again. Groups of 8 with an outlier or NaN, or of no scale, go a slower way.
template <typename T, bool kWhole, int kHeld>
__global__ void __launch_bounds__(kThreads, kQuantizing)
    quantize_kernel(const T* x, float threshold, int tokens, int columns, int stride, Int8Inputs inputs) {
  __shared__ float scratch[2][kThreads / 32];
  __shared__ bool last;
  join_stream();
  const float limit = threshold > 0.0f ? threshold : INFINITY;
  const int turns = (stride / kVector + kThreads - 1) / kThreads;
  int parity = 0;
  for (int token = static_cast<int>(blockIdx.x); token < tokens; token += static_cast<int>(gridDim.x)) {
    const T* row = x + static_cast<std::int64_t>(token) * columns;
    auto* codes = reinterpret_cast<uint2*>(inputs.codes + static_cast<std::int64_t>(token) * stride);
    Eight held[kHeld > 0 ? kHeld : 1];
    float top = 0.0f;
    const auto measure = [&](const Eight& values, int i) {
      if (const float most = values.top(); most < limit) {
        top = fmaxf(top, most);
        return;
      }
#pragma unroll 1
      for (int column = i * kVector; column < min((i + 1) * kVector, columns); ++column) {
        const float magnitude = fabsf(rounded<__half>(to_float(row[column])));
        if (threshold > 0.0f && magnitude >= threshold)
          atomicOr(&inputs.marks[1 + column / 32], 1u << (column % 32));
        else if (magnitude > top)
          top = magnitude;
      }
    };
    const auto quantize = [&](const Eight& values, int i, float scale) {
      if (i >= stride / kVector) return;
      if (values.top() < limit && scale < INFINITY) {
        codes[i] = {four_codes(values, 0, scale), four_codes(values, 4, scale)};
        return;
      }
      auto* slow = reinterpret_cast<std::int8_t*>(codes + i);
#pragma unroll 1
      for (int k = 0; k < kVector; ++k) {
        const int column = i * kVector + k;
        const float half = column < columns ? rounded<__half>(to_float(row[column])) : 0.0f;
        const float scaled = __fmul_rn(half, scale);
        const bool counts = scaled == scaled && !(threshold > 0.0f && fabsf(half) >= threshold);
        slow[k] = static_cast<std::int8_t>(counts ? __float2int_rn(scaled) : 0);
      }
    };
    const auto at = [](int turn) { return turn * kThreads + static_cast<int>(threadIdx.x); };
    const auto scale_of = [&] {
      top = block_max<kThreads>(top, scratch[parity ^= 1]);
      if (threadIdx.x == 0) inputs.absmax[token] = top;
      return __fmul_rn(127.0f, reciprocal_ftz(top));
    };
    if constexpr (kHeld > 0) {
#pragma unroll
      for (int turn = 0; turn < kHeld; ++turn) held[turn] = load_eight<kWhole>(row, at(turn), columns);
#pragma unroll
      for (int turn = 0; turn < kHeld; ++turn) measure(held[turn], at(turn));
      const float scale = scale_of();
#pragma unroll
      for (int turn = 0; turn < kHeld; ++turn) quantize(held[turn], at(turn), scale);
    } else {
      for (int turn = 0; turn < turns; ++turn) measure(load_eight<kWhole>(row, at(turn), columns), at(turn));
      const float scale = scale_of();
      for (int turn = 0; turn < turns; ++turn)
        quantize(load_eight<kWhole>(row, at(turn), columns), at(turn), scale);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(inputs.marks, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last) list_marked(inputs, (columns + 31) / 32);
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
    results_kernel(const __grid_constant__ SmallProblem p, const int* sums) {
  join_stream();
  const SmallPart& part = p.parts[0];
  const auto* weight = static_cast<const std::int8_t*>(part.weight);
  const auto* codes = static_cast<const std::int8_t*>(p.x);
  const OutlierView outliers{p.outlier_count, p.outlier_columns, p.outlier_x, p.columns};
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       i < std::int64_t{p.tokens} * part.out; i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t token = i / part.out, row = i % part.out;
    int sum = 0;
    if (sums) {
      sum = sums[i];
    } else {
      for (std::int64_t c = 0; c < p.columns; ++c)
        sum += static_cast<int>(weight[row * p.columns + c]) * codes[token * p.x_stride + c];
    }
    const float row_absmax = static_cast<const float*>(part.scales)[row];
    const float value =
        int8_value(sum, p.x_scales[token], row_absmax, part.bias ? part.bias + row : nullptr, p.type);
    static_cast<T*>(part.y)[i] =
        from_float<T>(add_outliers(value, outliers, weight, row, row_absmax, token, p.type));
  }
}

}  // namespace

void int8_inputs(const Int8Source& source, const Int8Inputs& inputs, cudaStream_t stream) {
  const auto quantize = [&](auto kernel, auto* x) {
    const std::int64_t blocks = std::min<std::int64_t>(source.tokens, source.multiprocessors * kQuantizing);
    launch(kernel, {dim3(static_cast<unsigned>(blocks)), kThreads}, stream, "int8 inputs", x,
           source.threshold, source.tokens, source.columns, source.stride, inputs);
  };
  with_type(source.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const auto* x = static_cast<const T*>(source.x.data);
    const auto fits = [&](int held) { return source.stride <= held * kVector * kThreads; };
    if (source.columns % kVector != 0)
      quantize(quantize_kernel<T, false, 0>, x);
    else if (fits(2))
      quantize(quantize_kernel<T, true, 2>, x);
    else if (fits(6))
      quantize(quantize_kernel<T, true, 6>, x);
    else
      quantize(quantize_kernel<T, true, 0>, x);
  });
  // One token's outliers have been left out already.
  if (source.threshold > 0.0f && source.tokens > 1)
    launch(erase_kernel, {dim3(kErasing), kThreads}, stream, "outlier columns", inputs, source.tokens,
           source.stride);
}

void int8_results(const SmallProblem& problem, const int* sums, cudaStream_t stream) {
  constexpr std::int64_t kMaxGrid = 4096;
  const std::int64_t blocks = ceil_div(std::int64_t{problem.tokens} * problem.parts[0].out, kThreads);
  with_type(problem.type, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(results_kernel<T>, {dim3(static_cast<unsigned>(std::min(blocks, kMaxGrid))), kThreads}, stream,
           "int8 results", problem, sums);
  });
}

}  // namespace qtool::cuda
