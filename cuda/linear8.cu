// The linear layers of LLM.int8: how their inputs are prepared, and which kernel takes many tokens.
#include "cuda/int8_linear.h"
#include "cuda/launch.cuh"
#include "cuda/linear.h"
#include "cuda/small_linear.h"
#include "cuda/wide8.h"

namespace qtool::cuda {

// Codes of x and what belongs to them, the input's side of `problem`.
void LinearRunner::prepare_int8(const CudaLinear& linear, Values x, std::int64_t rows,
                                SmallProblem& problem) {
  const std::int64_t in = linear.in, stride = ceil_div(in, kUnitColumns) * kUnitColumns;
  std::int64_t total = 0;
  const auto take = [&](std::int64_t bytes) {
    const std::int64_t at = total;
    total += ceil_div(bytes, 256) * 256;
    return at;
  };
  const std::int64_t codes = take(ceil_div(rows, kWide8Tokens) * kWide8Tokens * stride),
                     absmax = take(rows * 4), count = take(4), columns = take(in * 4),
                     marks = (1 + ceil_div(in, 32)) * 4;
  int8_.reserve(total);
  if (marks > marks_.bytes()) {
    marks_.reserve(marks);
    check(cudaMemsetAsync(marks_.as<void>(), 0, static_cast<std::size_t>(marks), stream_), "clearing marks");
  }
  auto* base = int8_.as<std::byte>();
  const Int8Inputs inputs{reinterpret_cast<std::int8_t*>(base + codes),
                          reinterpret_cast<float*>(base + absmax), reinterpret_cast<int*>(base + count),
                          reinterpret_cast<int*>(base + columns), marks_.as<unsigned>()};
  int8_inputs({x, linear.threshold, rows, in, stride, device_.multiprocessors}, inputs, stream_);
  problem.x = inputs.codes;
  problem.x_stride = stride;
  problem.x_scales = inputs.absmax;
  problem.outlier_count = inputs.outlier_count;
  problem.outlier_columns = inputs.outlier_columns;
  problem.outlier_x = x.data;
}

// One launch for all layers of the job; false where few tokens or the device ask for another kernel.
bool LinearRunner::run_wide8(const Job& job) {
  const CudaLinear& first = *job.linears[0];
  if (job.rows < kLeastWide8Tokens) return false;
  for (const CudaLinear* linear : job.linears)
    if (!takes_wide8(*linear, device_.capability) || !can_share(*linear, first)) return false;
  SmallProblem problem = small_problem(job);
  prepare_int8(first, typed_input(*job.input, job.rows, first.in, first.compute), job.rows, problem);
  launch_wide8(problem, stream_);
  return true;
}

// Through cuBLASLt, one layer at a time; without it, each product where its value is computed.
void LinearRunner::run_int8(const Job& job, const CudaLinear& linear, Values x, CudaArray& out) {
  const std::int64_t rows = job.rows;
  const CudaLinear* linears[] = {&linear};
  CudaArray* outs[] = {&out};
  SmallProblem problem = small_problem({nullptr, linears, rows, outs, nullptr, job.first_row});
  prepare_int8(linear, x, rows, problem);
  // The library wants rows of whole 16-byte pieces.
  int* sums = nullptr;
  if (blas_ && linear.in == problem.x_stride && linear.out % 4 == 0) {
    sums_.reserve(rows * linear.out * 4);
    const MatrixProduct product{linear.codes.as<void>(),
                                problem.x,
                                sums_.as<void>(),
                                rows,
                                linear.out,
                                linear.in,
                                linear.out,
                                DType::kI8};
    if (blas_->multiply(product, stream_)) sums = sums_.as<int>();
  }
  int8_results(problem, sums, stream_);
}

}  // namespace qtool::cuda
