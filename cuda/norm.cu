#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/norm.h"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kWarpColumns = 512;  // pieces up to here keep a warp busy, not more

__device__ __forceinline__ float table_value(const Values& table, std::int64_t at) {
  switch (table.dtype) {
    case DType::kF16:
      return to_float(static_cast<const __half*>(table.data)[at]);
    case DType::kBF16:
      return to_float(static_cast<const __nv_bfloat16*>(table.data)[at]);
    default:
      return static_cast<const float*>(table.data)[at];
  }
}

template <typename T>
__device__ __forceinline__ void load8(const T* from, float (&values)[8]) {
  const auto raw = *reinterpret_cast<const Vec<T, 8>*>(from);
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = to_float(raw.values[i]);
}

__device__ __forceinline__ void load8(const Values& table, std::int64_t at, float (&values)[8]) {
  switch (table.dtype) {
    case DType::kF16:
      return load8(static_cast<const __half*>(table.data) + at, values);
    case DType::kBF16:
      return load8(static_cast<const __nv_bfloat16*>(table.data) + at, values);
    default:
      return load8(static_cast<const float*>(table.data) + at, values);
  }
}

// Rows that are a multiple of 8 columns wide and fit in a thread block's registers: read once, 8 columns at a
// time.
constexpr int kVectors = 4;  // of 8 columns per thread: 8192 columns
template <typename X, typename T>
__global__ void __launch_bounds__(kThreads) row_kernel(const X* x, NormRule rule, int cols, T* out) {
  __shared__ float sums[kThreads / 32], squares[kThreads / 32];
  join_stream();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * cols;
  const auto column = [](int v) { return (v * kThreads + static_cast<int>(threadIdx.x)) * 8; };
  float values[kVectors][8];
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    if (column(v) < cols) load8(x + first + column(v), values[v]);
  const auto sum_of = [&](float* scratch, auto f) {
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < cols)
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += f(values[v][i]);
    return block_sum<kThreads>(sum, scratch);
  };
  const auto n = static_cast<float>(cols);
  if (rule.kind == NormKind::kLayer) {
    const float mean = sum_of(sums, [](float a) { return a; }) / n;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      if (column(v) < cols)
#pragma unroll
        for (int i = 0; i < 8; ++i) values[v][i] -= mean;
  }
  const float factor = 1.0f / sqrtf(sum_of(squares, [](float a) { return a * a; }) / n + rule.eps);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (column(v) >= cols) continue;
    float table[8];
    if (rule.weight.data) load8(rule.weight, column(v), table);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[v][i] *= factor;
      if (rule.weight.data) values[v][i] = (table[i] + rule.weight_offset) * values[v][i];
    }
    if (rule.bias.data) {
      load8(rule.bias, column(v), table);
#pragma unroll
      for (int i = 0; i < 8; ++i) values[v][i] += table[i];
    }
    Vec<T, 8> result;
#pragma unroll
    for (int i = 0; i < 8; ++i) result.values[i] = from_float<T>(values[v][i]);
    *reinterpret_cast<Vec<T, 8>*>(out + first + column(v)) = result;
  }
}

// Any piece, kLanes threads to one: a warp or a thread block.
template <typename X, typename T, int kLanes>
__global__ void __launch_bounds__(kThreads)
    piece_kernel(const X* x, NormRule rule, int groups, bool whole_tables, std::int64_t pieces,
                 std::int64_t cols, T* out) {
  __shared__ float scratch[2][kThreads / 32];
  join_stream();
  const std::int64_t piece =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  if (piece >= pieces) return;  // all lanes of it
  const std::int64_t tables = whole_tables ? piece % groups * cols : 0;
  const X* from = x + piece * cols;
  T* to = out + piece * cols;
  const auto sum_of = [&](float* place, auto f) {
    float sum = 0.0f;
    for (std::int64_t i = threadIdx.x % kLanes; i < cols; i += kLanes) sum += f(to_float(from[i]));
    if constexpr (kLanes == 32)
      return warp_sum(sum);
    else
      return block_sum<kThreads>(sum, place);
  };
  const auto n = static_cast<float>(cols);
  const float mean = rule.kind == NormKind::kLayer ? sum_of(scratch[0], [](float a) { return a; }) / n : 0.0f;
  const float squares = sum_of(scratch[1], [mean](float a) { return (a - mean) * (a - mean); });
  const float factor = 1.0f / sqrtf(squares / n + rule.eps);
  for (std::int64_t i = threadIdx.x % kLanes; i < cols; i += kLanes) {
    float value = (to_float(from[i]) - mean) * factor;
    if (rule.weight.data) value = (table_value(rule.weight, tables + i) + rule.weight_offset) * value;
    if (rule.bias.data) value += table_value(rule.bias, tables + i);
    to[i] = from_float<T>(value);
  }
}

}  // namespace

void norm(Values x, const NormRule& rule, int groups, bool whole_tables, std::int64_t rows, std::int64_t cols,
          Values out, cudaStream_t stream) {
  const std::int64_t pieces = rows * groups, width = cols / groups;
  if (pieces == 0) return;
  with_type(x.dtype, [&](auto from) {
    with_type(out.dtype, [&](auto to) {
      using X = typename decltype(from)::Type;
      using T = typename decltype(to)::Type;
      const auto* in = static_cast<const X*>(x.data);
      auto* result = static_cast<T*>(out.data);
      if (width <= kWarpColumns)
        launch(piece_kernel<X, T, 32>,
               {dim3(static_cast<unsigned>(ceil_div(pieces, kThreads / 32))), kThreads}, stream, "norm", in,
               rule, groups, whole_tables, pieces, width, result);
      else if (groups == 1 && width % 8 == 0 && width <= kVectors * kThreads * 8)
        launch(row_kernel<X, T>, {dim3(static_cast<unsigned>(pieces)), kThreads}, stream, "norm", in, rule,
               static_cast<int>(width), result);
      else
        launch(piece_kernel<X, T, kThreads>, {dim3(static_cast<unsigned>(pieces)), kThreads}, stream, "norm",
               in, rule, groups, whole_tables, pieces, width, result);
    });
  });
}

}  // namespace qtool::cuda
