#include <algorithm>
#include <bit>

#include "core/error.h"
#include "cuda/generic_linear.h"
#include "cuda/int8_linear.h"
#include "cuda/launch.cuh"
#include "cuda/linear.h"
#include "cuda/norm.h"
#include "cuda/one_token_rows.h"
#include "cuda/small_linear.h"
#include "cuda/tiles4.h"
#include "cuda/wide4.h"

namespace qtool::cuda {
namespace {

constexpr std::int64_t kBatchTokens = 128;          // with more, what layers share is computed once
constexpr std::int64_t kMostPanelBytes = 96 << 20;  // of dequantized weights at a time
constexpr std::int64_t kPanelStep = 256;            // rows
constexpr std::int64_t kGenericTokens = 16;  // in float32: up to here decoding each weight anew costs little

std::byte* offset(void* data, std::int64_t bytes) { return static_cast<std::byte*>(data) + bytes; }

}  // namespace

bool can_share(const CudaLinear& a, const CudaLinear& b) {
  return a.form == b.form && a.compute == b.compute && a.dense_dtype == b.dense_dtype && a.in == b.in &&
         a.block_size == b.block_size && a.code == b.code && a.threshold == b.threshold;
}

LinearRunner::LinearRunner(const Device& device, cudaStream_t stream)
    : device_(device), stream_(stream), blas_(CublasLt::open()) {
  prepare_small_kernels();
  if (has_hopper_code(device.capability)) wide4_ = std::make_unique<Wide4Workspace>(device.multiprocessors);
}

LinearRunner::~LinearRunner() = default;

std::vector<const void*> LinearRunner::workspaces() const {
  return {typed_.as<void>(), half_.as<void>(),  int8_.as<void>(),
          marks_.as<void>(), panel_.as<void>(), sums_.as<void>()};
}

void LinearRunner::run(const LinearInput& input, std::span<const CudaLinear* const> linears,
                       std::int64_t rows, std::span<CudaArray* const> outs) {
  for (std::size_t i = 0; i < outs.size(); ++i) outs[i]->dtype = linears[i]->compute;
  const Job job{&input, linears, rows, outs, nullptr};
  if (rows == 0 || run_apart(job) || run_wide8(job) || run_few(job)) return;
  // Layers that go their own ways share what they read.
  LinearInput shared = input;
  const DType type = linears[0]->compute;
  if (input.source == Source::kNorm && rows > kBatchTokens && !isolated_ &&
      std::ranges::all_of(linears, [&](const CudaLinear* linear) { return linear->compute == type; })) {
    shared.x = typed_input(input, rows, linears[0]->in, type);
    shared.source = Source::kValues;
  }
  const Job apart{&shared, linears, rows, outs, nullptr};
  for (std::size_t i = 0; i < linears.size(); ++i) run_one(apart, i);
}

void LinearRunner::run_add(const LinearInput& input, const CudaLinear& linear, std::int64_t rows,
                           CudaArray& out, CudaArray& residual) {
  const CudaLinear* linears[] = {&linear};
  CudaArray* outs[] = {&out};
  out.dtype = linear.compute;
  const Job job{&input, linears, rows, outs, residual.memory.as<float>()};
  if (rows == 0 || run_apart(job) || run_wide8(job) || run_few(job)) return;
  if (run_one(job, 0)) return;
  add(job.residual, out.values(), 1.0f, rows * linear.out, stream_);
}

bool LinearRunner::isolate_rows() {
  isolated_ = wide4_ != nullptr;
  return isolated_;
}

// LLM.int8 takes the columns of outliers from all rows of a product.
bool LinearRunner::run_apart(const Job& job) {
  const CudaLinear& first = *job.linears[0];
  if (!isolated_ || job.rows == 1) return false;
  if (std::ranges::none_of(job.linears, [](const auto* linear) { return linear->form == WeightForm::kInt8; }))
    return false;
  for (std::int64_t row = 0; row < job.rows; ++row) {
    const auto at = [&](const Values& of) {
      return of.data ? Values{offset(of.data, row * first.in * size_of(of.dtype)), of.dtype} : of;
    };
    LinearInput input = *job.input;
    input.x = at(input.x);
    input.up = at(input.up);
    Job alone{&input, job.linears, 1, job.outs, job.residual, row};
    if (job.residual) alone.residual += row * first.out;
    if (run_few(alone)) continue;
    for (std::size_t i = 0; i < job.linears.size(); ++i)
      if (!run_one(alone, i) && job.residual)
        add(alone.residual,
            {offset(job.outs[i]->memory.as<void>(), row * first.out * size_of(first.compute)), first.compute},
            1.0f, first.out, stream_);
  }
  return true;
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

SmallProblem LinearRunner::small_problem(const Job& job) const {
  const CudaLinear& first = *job.linears[0];
  SmallProblem problem;
  problem.part_count = static_cast<int>(job.linears.size());
  for (std::size_t i = 0; i < job.linears.size(); ++i) {
    problem.parts[i] = small_part(*job.linears[i]);
    problem.parts[i].y = job.y(i);
  }
  problem.columns = static_cast<int>(first.in);
  problem.units = static_cast<int>(ceil_div(first.in, kUnitColumns));
  problem.nested_shift = std::countr_zero(static_cast<unsigned>(2 * first.block_size));
  problem.map = first.map.as<float>();
  problem.code = first.code;
  problem.tokens = static_cast<int>(job.rows);
  problem.type = first.compute;
  problem.residual = job.residual;
  problem.multiprocessors = device_.multiprocessors;
  problem.clusters = device_.capability >= 90;
  return problem;
}

HalfInputs LinearRunner::half_inputs_of(const Job& job, const SmallProblem& problem) const {
  const LinearInput& input = *job.input;
  HalfInputs inputs;
  inputs.source = input.source;
  inputs.x = input.x;
  inputs.weight = input.weight;
  inputs.eps = input.eps;
  inputs.weight_offset = input.weight_offset;
  inputs.up = input.up;
  inputs.activation = input.activation;
  inputs.compute = problem.type;
  inputs.rows = job.rows;
  inputs.cols = problem.columns;
  inputs.padded = problem.units * std::int64_t{kUnitColumns};
  return inputs;
}

// One launch per 32 tokens for all layers of the job; false if its weights are not such that kernels take
// them, or have kernels of their own.
bool LinearRunner::run_few(const Job& job) {
  const CudaLinear& first = *job.linears[0];
  if (is_tiles(first)) return run_tiles(job);
  if (job.rows > kFewTokens && !isolated_ && (blas_ || first.form == WeightForm::kDense)) return false;
  for (const CudaLinear* linear : job.linears)
    if (!takes_small(*linear, device_.capability) || !can_share(*linear, first)) return false;

  SmallProblem problem = small_problem(job);
  HalfInputs inputs = half_inputs_of(job, problem);
  const auto run_row = [&] {
    if (job.rows != 1 || (isolated_ && first.form == WeightForm::kDense) ||
        !takes_one_token_rows(problem, inputs, first.form, device_.capability, device_.shared_bytes))
      return false;
    launch_one_token_rows(problem, inputs, first.form, first.threshold, stream_);
    return true;
  };
  if (run_row()) return true;
  // The kernel for more tokens reads whole units of inputs.
  if (first.form == WeightForm::kDense && first.in % kUnitColumns != 0) return false;
  const Values typed = typed_input(*job.input, job.rows, first.in, first.compute);
  inputs.x = typed;
  inputs.source = Source::kValues;
  if (run_row()) return true;
  std::int64_t element = 1;
  if (first.form == WeightForm::kInt8) {
    prepare_int8(first, typed, job.rows, problem);
  } else {
    problem.x = typed.data;
    problem.x_stride = first.in;
    element = 2;
  }
  for (std::int64_t done = 0; done < job.rows; done += kSmallTokens)
    launch_small(pass_of(problem, done, std::min<std::int64_t>(kSmallTokens, job.rows - done),
                         problem.x_stride * element),
                 first.form, first.dense_dtype, stream_);
  return true;
}

bool LinearRunner::run_one(const Job& job, std::size_t index) {
  const CudaLinear& linear = *job.linears[index];
  CudaArray& out = *job.outs[index];
  LinearInput input = *job.input;
  if (index > 0 && input.source == Source::kGated)
    input.source = Source::kValues;  // the first has gated them
  if (job.linears.size() > 1) {      // what could not share a launch may still have one of its own
    const CudaLinear* linears[] = {&linear};
    CudaArray* outs[] = {&out};
    const Job alone{&input, linears, job.rows, outs, nullptr, job.first_row};
    if (run_wide8(alone) || run_few(alone)) return false;
  }
  const Values x = typed_input(input, job.rows, linear.in, linear.compute);
  if (linear.form == WeightForm::kInt8) {
    run_int8(job, linear, x, out);
    return false;
  }
  const bool exact = linear.compute == DType::kF32;
  if (!blas_ || isolated_ || (exact && job.rows <= kGenericTokens)) {
    if (is_tiles(linear)) throw internal_error("4-bit tiles met no kernel");
    generic_linear(linear, x.data, job.rows, job.y(index), stream_);
    return false;
  }
  return run_panels(linear, x.data, job.rows, out, job.residual);
}

// Through cuBLASLt. Weights of another form become values of the compute type first, all of them where
// kMostPanelBytes hold them. (Panels that stay in the L2 cache are written no faster, and short products
// leave more of the device idle at their end: 4096 tokens by 4096x11008 on an H100 take 473 us in one
// product, 558 in six.)
bool LinearRunner::run_panels(const CudaLinear& linear, const void* x, std::int64_t rows, CudaArray& out,
                              float* residual) {
  const DType type = linear.compute;
  const std::int64_t element = size_of(type);
  const bool ready = linear.form == WeightForm::kDense && linear.dense_dtype == type;
  const bool adds = residual && element == 2;
  const Values y = adds ? Values{residual, DType::kF32} : out.values();
  std::int64_t panel_rows = linear.out;
  if (!ready) {
    const std::int64_t most = std::max(kPanelStep, kMostPanelBytes / (linear.in * element));
    panel_rows = ceil_div(ceil_div(linear.out, ceil_div(linear.out, most)), kPanelStep) * kPanelStep;
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
    MatrixProduct product{weight,     x,   offset(y.data, first * size_of(y.dtype)), rows, count, linear.in,
                          linear.out, type};
    product.adds = adds;
    if (!blas_->multiply(product, stream_)) {
      if (is_tiles(linear) || first > 0) throw internal_error("a panel met no kernel");
      generic_linear(linear, x, rows, out.memory.as<void>(), stream_);
      return false;
    }
  }
  if (linear.bias.bytes() > 0) add_bias(y, linear.bias.as<float>(), rows, linear.out, stream_);
  return adds;
}

}  // namespace qtool::cuda
