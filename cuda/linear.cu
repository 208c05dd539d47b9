#include <algorithm>
#include <array>
#include <bit>

#include "core/error.h"
#include "cuda/batch4.h"
#include "cuda/generic_linear.h"
#include "cuda/int8_linear.h"
#include "cuda/launch.cuh"
#include "cuda/linear.h"
#include "cuda/norm.h"
#include "cuda/one_token4.h"
#include "cuda/one_token_rows.h"
#include "cuda/small_linear.h"
#include "cuda/tiles4.h"

namespace qtool::cuda {
namespace {

// Up to here the weights are read once per 32 tokens; beyond, dequantizing them
// first is faster.
constexpr std::int64_t kFewTokens = 64;
constexpr std::int64_t kBatchTokens = 128;  // the same where batch4.h takes the product
// Dequantized weights that stay in the L2 cache beside the activations: with
// few tokens more of them, for the library cuts a product into tiles of
// kProductTile squared, one to a multiprocessor at least.
constexpr std::int64_t kPanelBytes = 16 << 20, kMostPanelBytes = 36 << 20;
constexpr std::int64_t kProductTile = 128;
constexpr std::int64_t kGenericTokens = 16;  // in float32: up to here decoding each weight anew costs little

std::byte* offset(void* data, std::int64_t bytes) { return static_cast<std::byte*>(data) + bytes; }
const std::byte* offset(const void* data, std::int64_t bytes) {
  return static_cast<const std::byte*>(data) + bytes;
}

bool can_share(const CudaLinear& a, const CudaLinear& b) {
  return a.form == b.form && a.compute == b.compute && a.dense_dtype == b.dense_dtype && a.in == b.in &&
         a.block_size == b.block_size && a.code == b.code && a.threshold == b.threshold;
}

bool is_tiles(const CudaLinear& linear) {
  return linear.form == WeightForm::kTiles4 || linear.form == WeightForm::kTiles4F;
}

}  // namespace

struct LinearRunner::Int8Prepared {
  Int8Inputs inputs;
  std::int64_t stride;
};

LinearRunner::LinearRunner(const Device& device, cudaStream_t stream)
    : device_(device), stream_(stream), blas_(CublasLt::open()) {
  prepare_small_kernels();
}

std::vector<const void*> LinearRunner::workspaces() const {
  return {typed_.as<void>(), half_.as<void>(), int8_.as<void>(), panel_.as<void>(), sums_.as<void>()};
}

void LinearRunner::run(const LinearInput& input, std::span<const CudaLinear* const> linears,
                       std::int64_t rows, std::span<CudaArray* const> outs) {
  for (std::size_t i = 0; i < outs.size(); ++i) outs[i]->dtype = linears[i]->compute;
  const Job job{&input, linears, rows, outs, nullptr};
  if (rows == 0 || run_few(job)) return;
  for (std::size_t i = 0; i < linears.size(); ++i) run_one(job, i);
}

void LinearRunner::run_add(const LinearInput& input, const CudaLinear& linear, std::int64_t rows,
                           CudaArray& out, CudaArray& residual) {
  const CudaLinear* linears[] = {&linear};
  CudaArray* outs[] = {&out};
  out.dtype = linear.compute;
  const Job job{&input, linears, rows, outs, residual.memory.as<float>()};
  if (rows == 0 || run_few(job)) return;
  run_one(job, 0);
  add(job.residual, out.values(), 1.0f, rows * linear.out, stream_);
}

// The inputs as values of `type`, where they are or in a workspace.
Values LinearRunner::typed_input(const LinearInput& input, std::int64_t rows, std::int64_t in, DType type) {
  if (input.source == Source::kGated) gate(input.x, input.up, input.activation, rows * in, stream_);
  if (input.source != Source::kNorm && input.x.dtype == type) return input.x;
  typed_.reserve(rows * in * size_of(type));
  const Values typed{typed_.as<void>(), type};
  if (input.source == Source::kNorm)
    norm(input.x, {NormKind::kRms, input.eps, input.weight, input.weight_offset, {}}, 1, false, rows, in,
         typed, stream_);
  else
    convert(input.x, rows * in, typed, stream_);
  return typed;
}

LinearRunner::Int8Prepared LinearRunner::prepare_int8(const CudaLinear& linear, Values x, std::int64_t rows) {
  const std::int64_t in = linear.in, stride = ceil_div(in, kUnitColumns) * kUnitColumns;
  std::int64_t total = 0;
  const auto take = [&](std::int64_t bytes) {
    const std::int64_t at = total;
    total += ceil_div(bytes, 256) * 256;
    return at;
  };
  const std::int64_t codes = take(rows * stride), absmax = take(rows * 4), typed = take(rows * in * 4),
                     count = take(4), columns = take(in * 4), mask = take(ceil_div(in, 32) * 4);
  int8_.reserve(total);
  auto* base = int8_.as<std::byte>();
  const Int8Inputs inputs{reinterpret_cast<std::int8_t*>(base + codes),
                          reinterpret_cast<float*>(base + absmax),
                          base + typed,
                          reinterpret_cast<int*>(base + count),
                          reinterpret_cast<int*>(base + columns),
                          reinterpret_cast<unsigned*>(base + mask)};
  int8_inputs(x, linear.compute, linear.threshold, rows, in, stride, inputs, stream_);
  return {inputs, stride};
}

// One launch per 32 tokens for all layers of the job; false if its weights are
// not such that kernels take them.
bool LinearRunner::run_few(const Job& job) {
  const CudaLinear& first = *job.linears[0];
  const bool alone = !blas_ && first.form != WeightForm::kDense;  // tiles have no other way then
  const bool batches = is_tiles(first) && most_batch4_tokens(device_.capability, device_.shared_bytes) > 0;
  if (job.rows > (batches ? kBatchTokens : kFewTokens) && !alone) return false;
  for (const CudaLinear* linear : job.linears)
    if (!takes_small(*linear, device_.capability) || !can_share(*linear, first)) return false;

  SmallProblem problem;
  problem.part_count = static_cast<int>(job.linears.size());
  problem.columns = static_cast<int>(first.in);
  problem.units = static_cast<int>(ceil_div(first.in, kUnitColumns));
  problem.nested_shift = std::countr_zero(static_cast<unsigned>(2 * first.block_size));
  problem.map = first.map.as<float>();
  problem.code = first.code;
  problem.type = first.compute;
  problem.residual = job.residual;
  problem.multiprocessors = device_.multiprocessors;
  problem.clusters = device_.capability >= 90;
  const std::int64_t padded = problem.units * std::int64_t{kUnitColumns};
  HalfInputs inputs{job.input->source,     job.input->x,  job.input->weight, job.input->eps, job.input->up,
                    job.input->activation, first.compute, job.rows,          first.in,       padded};
  inputs.weight_offset = job.input->weight_offset;
  for (std::size_t i = 0; i < job.linears.size(); ++i) {
    problem.parts[i] = small_part(*job.linears[i]);
    problem.parts[i].y = job.outs[i]->memory.as<void>();
  }
  const bool batch = batches && pays_batch4(problem, job.rows);
  if (job.rows > kFewTokens && !batch && !alone) return false;
  if (is_tiles(first) && job.rows == 1 && takes_one_token(inputs, device_.capability, device_.shared_bytes)) {
    problem.tokens = 1;
    launch_one_token4(problem, inputs, first.form == WeightForm::kTiles4, stream_);
    return true;
  }
  Values typed{};
  if (!is_tiles(first)) {
    const auto run_row = [&] {
      if (job.rows != 1 ||
          !takes_one_token_rows(problem, inputs, first.form, device_.capability, device_.shared_bytes))
        return false;
      problem.tokens = 1;
      launch_one_token_rows(problem, inputs, first.form, first.threshold, stream_);
      return true;
    };
    if (run_row()) return true;
    // The kernel for more tokens reads whole units of inputs.
    if (first.form == WeightForm::kDense && first.in % kUnitColumns != 0) return false;
    typed = typed_input(*job.input, job.rows, first.in, first.compute);
    inputs.x = typed;
    inputs.source = Source::kValues;
    if (run_row()) return true;
  }
  if (is_tiles(first)) {
    // Scales first: the inputs behind them stay aligned.
    const std::int64_t scale_bytes = ceil_div(job.rows * 4, 256) * 256;
    half_.reserve(scale_bytes + job.rows * padded * 2);
    inputs.out = half_.as<std::byte>() + scale_bytes;
    inputs.scales = half_.as<float>();
    half_inputs(inputs, stream_);
    problem.x = half_.as<std::byte>() + scale_bytes;
    problem.x_scales = half_.as<float>();
    problem.x_stride = padded;
  } else if (first.form == WeightForm::kInt8) {
    const Int8Prepared prepared = prepare_int8(first, typed, job.rows);
    problem.x = prepared.inputs.codes;
    problem.x_scales = prepared.inputs.absmax;
    problem.x_stride = prepared.stride;
    problem.outlier_count = prepared.inputs.outlier_count;
    problem.outlier_columns = prepared.inputs.outlier_columns;
    problem.outlier_x = prepared.inputs.typed;
  } else {
    problem.x = typed.data;
    problem.x_stride = first.in;
  }

  const std::int64_t element = first.form == WeightForm::kInt8 ? 1 : 2,
                     typed_element = size_of(first.compute);
  const SmallProblem whole = problem;
  const std::int64_t most =
      batch ? most_batch4_tokens(device_.capability, device_.shared_bytes) : kSmallTokens;
  for (std::int64_t done = 0; done < job.rows; done += most) {
    problem.tokens = static_cast<int>(std::min(most, job.rows - done));
    problem.x = offset(whole.x, done * whole.x_stride * element);
    if (whole.x_scales) problem.x_scales = whole.x_scales + done;
    if (whole.outlier_x) problem.outlier_x = offset(whole.outlier_x, done * first.in * typed_element);
    if (whole.residual) problem.residual = whole.residual + done * first.out;
    for (std::size_t i = 0; i < job.linears.size(); ++i) {
      problem.parts[i] = small_part(*job.linears[i]);
      problem.parts[i].y = offset(job.outs[i]->memory.as<void>(), done * job.linears[i]->out * typed_element);
    }
    if (batch)
      launch_batch4(problem, first.form == WeightForm::kTiles4, stream_);
    else
      launch_small(problem, first.form, first.dense_dtype, stream_);
  }
  return true;
}

void LinearRunner::run_one(const Job& job, std::size_t index) {
  const CudaLinear& linear = *job.linears[index];
  CudaArray& out = *job.outs[index];
  LinearInput input = *job.input;
  if (index > 0 && input.source == Source::kGated)
    input.source = Source::kValues;  // the first has gated them
  if (job.linears.size() > 1) {      // what could not share a launch may still have one of its own
    const CudaLinear* linears[] = {&linear};
    CudaArray* outs[] = {&out};
    if (run_few({&input, linears, job.rows, outs, nullptr})) return;
  }
  const Values x = typed_input(input, job.rows, linear.in, linear.compute);
  if (linear.form == WeightForm::kInt8) return run_int8(linear, x, job.rows, out);
  const bool exact = linear.compute == DType::kF32;
  if (!blas_ || (exact && job.rows <= kGenericTokens)) {
    if (is_tiles(linear)) throw internal_error("4-bit tiles met no kernel");
    return generic_linear(linear, x.data, job.rows, out.memory.as<void>(), stream_);
  }
  run_panels(linear, x.data, job.rows, out);
}

// Through cuBLASLt, in panels of rows whose dequantized values fit in the L2
// cache; dense weights in one piece.
void LinearRunner::run_panels(const CudaLinear& linear, const void* x, std::int64_t rows, CudaArray& out) {
  const DType type = linear.compute;
  const std::int64_t element = size_of(type);
  const bool ready = linear.form == WeightForm::kDense && linear.dense_dtype == type;
  std::int64_t panel_rows = linear.out;
  if (!ready) {
    const std::int64_t row_bytes = linear.in * element;
    const std::int64_t filling = device_.multiprocessors * kProductTile * kProductTile / rows;
    const std::int64_t wanted = std::max<std::int64_t>(
        256, std::clamp(filling, kPanelBytes / row_bytes, kMostPanelBytes / row_bytes));
    panel_rows = ceil_div(ceil_div(linear.out, ceil_div(linear.out, wanted)), 256) * 256;
    panel_rows = std::min(panel_rows, linear.out);
    panel_.reserve(panel_rows * linear.in * element);
  }
  for (std::int64_t first = 0; first < linear.out; first += panel_rows) {
    const std::int64_t count = std::min(panel_rows, linear.out - first);
    const void* weight = linear.weight();
    if (!ready) {
      const Values panel{panel_.as<void>(), type};
      if (linear.form == WeightForm::kDense)
        convert({offset(const_cast<void*>(linear.weight()), first * linear.in * size_of(linear.dense_dtype)),
                 linear.dense_dtype},
                count * linear.in, panel, stream_);
      else
        dequantize4(linear, first, count, panel, stream_);
      weight = panel.data;
    }
    const MatrixProduct product{
        weight, x, offset(out.memory.as<void>(), first * element), rows, count, linear.in, linear.out, type};
    if (!blas_->multiply(product, stream_)) {
      if (is_tiles(linear)) throw internal_error("4-bit tiles met no kernel");
      return generic_linear(linear, x, rows, out.memory.as<void>(), stream_);
    }
  }
  if (linear.bias.bytes() > 0) add_bias(out.values(), linear.bias.as<float>(), rows, linear.out, stream_);
}

void LinearRunner::run_int8(const CudaLinear& linear, Values x, std::int64_t rows, CudaArray& out) {
  const Int8Prepared prepared = prepare_int8(linear, x, rows);
  Int8Results results;
  results.weight = linear.codes.as<std::int8_t>();
  results.row_absmax = linear.scales.as<float>();
  results.bias = linear.bias.as<float>();
  results.tokens = rows;
  results.out = linear.out;
  results.columns = linear.in;
  results.stride = prepared.stride;
  results.type = linear.compute;
  results.y = out.memory.as<void>();
  // The library wants rows of whole 16-byte pieces.
  if (blas_ && linear.in == prepared.stride && linear.out % 4 == 0) {
    sums_.reserve(rows * linear.out * 4);
    const MatrixProduct product{linear.codes.as<void>(),
                                prepared.inputs.codes,
                                sums_.as<void>(),
                                rows,
                                linear.out,
                                linear.in,
                                linear.out,
                                DType::kI8};
    if (blas_->multiply(product, stream_)) results.sums = sums_.as<int>();
  }
  int8_results(prepared.inputs, results, stream_);
}

}  // namespace qtool::cuda
