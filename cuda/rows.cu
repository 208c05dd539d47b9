#include <algorithm>

#include "cuda/device_math.cuh"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/rows.h"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxGrid = 4096;

template <typename T>
__global__ void embed_kernel(const T* table, std::int64_t cols, const std::int32_t* ids, std::int64_t rows,
                             float* out) {
  join_stream();
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = table + ids[row] * cols;
    for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) out[row * cols + i] = to_float(from[i]);
  }
}

template <typename T>
__global__ void positions_kernel(float* x, const T* table, std::int64_t first, const Place2* places,
                                 std::int64_t cols) {
  join_stream();
  const T* from = table + (first + places[blockIdx.x].position) * cols;
  for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) x[blockIdx.x * cols + i] += to_float(from[i]);
}

// Rows are copied in pieces of Unit, which divides every width.
template <typename Unit>
__global__ void split_kernel(const __grid_constant__ SplitProblem p) {
  join_stream();
  const std::int64_t row = blockIdx.x;
  int group_width = 0;
  for (int i = 0; i < p.parts; ++i) group_width += p.widths[i];
  const int width = group_width * p.groups;
  const auto* from = static_cast<const Unit*>(p.fused) + row * width;
  for (int at = static_cast<int>(threadIdx.x); at < width; at += kThreads) {
    const int group = at / group_width;
    int column = at % group_width, part = 0;
    while (column >= p.widths[part]) column -= p.widths[part++];
    static_cast<Unit*>(p.outs[part])[(row * p.groups + group) * p.widths[part] + column] = from[at];
  }
}

template <typename Unit>
__global__ void gather_kernel(const Unit* x, const std::int64_t* rows, std::int64_t width, Unit* out) {
  join_stream();
  const Unit* from = x + rows[blockIdx.x] * width;
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads) out[blockIdx.x * width + i] = from[i];
}

template <typename T>
__global__ void scatter_kernel(const T* y, const std::int64_t* rows, const float* weights, std::int64_t cols,
                               float* x) {
  join_stream();
  const T* from = y + blockIdx.x * cols;
  float* to = x + rows[blockIdx.x] * cols;
  const float weight = weights[blockIdx.x];
  for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) to[i] += weight * to_float(from[i]);
}

// Calls f(Unit{}, size of it) with the largest unit that divides `bytes`.
template <typename F>
void with_unit(std::int64_t bytes, F&& f) {
  if (bytes % 16 == 0) return f(uint4{}, 16);
  return f(std::uint16_t{}, 2);
}

Launch one_block_a_row(std::int64_t rows) { return {dim3(static_cast<unsigned>(rows)), kThreads}; }

}  // namespace

void embed(Values table, std::int64_t cols, const std::int32_t* ids, std::int64_t rows, float* out,
           cudaStream_t stream) {
  if (rows == 0) return;
  with_type(table.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(embed_kernel<T>, one_block_a_row(std::min(rows, kMaxGrid)), stream, "looking up embeddings",
           static_cast<const T*>(table.data), cols, ids, rows, out);
  });
}

void add_positions(float* x, Values table, std::int64_t first, const Place2* places, std::int64_t rows,
                   std::int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  with_type(table.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(positions_kernel<T>, one_block_a_row(rows), stream, "adding positions", x,
           static_cast<const T*>(table.data), first, places, cols);
  });
}

void split(const SplitProblem& problem, cudaStream_t stream) {
  if (problem.rows == 0) return;
  std::int64_t common = 16;
  for (int i = 0; i < problem.parts; ++i)
    if (std::int64_t{problem.widths[i]} * problem.element % 16 != 0) common = 2;
  with_unit(common, [&](auto unit, int bytes) {
    SplitProblem units = problem;
    for (int& width : units.widths) width = width * problem.element / bytes;
    launch(split_kernel<decltype(unit)>, one_block_a_row(problem.rows), stream, "taking columns apart",
           units);
  });
}

void gather(const void* x, int element, const std::int64_t* rows, std::int64_t count, std::int64_t cols,
            void* out, cudaStream_t stream) {
  if (count == 0) return;
  with_unit(cols * element, [&](auto unit, int bytes) {
    using Unit = decltype(unit);
    launch(gather_kernel<Unit>, one_block_a_row(count), stream, "gather", static_cast<const Unit*>(x), rows,
           cols * element / bytes, static_cast<Unit*>(out));
  });
}

void scatter_add(Values y, const std::int64_t* rows, const float* weights, std::int64_t count,
                 std::int64_t cols, float* x, cudaStream_t stream) {
  if (count == 0) return;
  with_type(y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    launch(scatter_kernel<T>, one_block_a_row(count), stream, "scatter", static_cast<const T*>(y.data), rows,
           weights, cols, x);
  });
}

}  // namespace qtool::cuda
