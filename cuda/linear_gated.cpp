// A gated MLP in two products: the first leaves act(gate) * up, the second reads it.
#include "cuda/linear.h"
#include "cuda/one_token4.h"
#include "cuda/own.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

bool LinearRunner::run_gated(const LinearInput& input, const GatedMlp& mlp, std::int64_t rows,
                             CudaArray& gate_out, CudaArray& up_out, CudaArray& scratch,
                             CudaArray& residual) {
  if (isolated_ || rows == 0) return false;  // isolated, one token is computed as many are
  const CudaLinear* linears[] = {&mlp.gate, &mlp.up};
  const CudaLinear* down[] = {&mlp.down};
  for (const CudaLinear* linear : {linears[0], linears[1], down[0]})
    if (!is_tiles(*linear) || !takes_small(*linear, device_.capability)) return false;
  if (!can_share(mlp.gate, mlp.up) || mlp.gate.out != mlp.up.out || mlp.gate.compute != mlp.down.compute)
    return false;
  require(mlp.gate.out == gate_out.cols && mlp.up.out == up_out.cols && mlp.gate.out == mlp.down.in &&
              mlp.down.out == residual.cols,
          "the widths of a gated MLP agree");
  CudaArray* outs[] = {&gate_out, &up_out};
  Job first{&input, linears, rows, outs, nullptr};
  LinearInput between;
  between.x = {gate_out.memory.as<void>(), mlp.gate.compute};
  if (rows > 1) {
    first.gate = mlp.activation;
    if (!run_tiles(first)) return false;
    gate_out.dtype = up_out.dtype = mlp.gate.compute;
    run_add(between, mlp.down, rows, scratch, residual);
    return true;
  }

  const auto takes = [&](const HalfInputs& inputs) {
    return takes_one_token(inputs, device_.capability, device_.shared_bytes);
  };
  const auto nested = [](const CudaLinear& linear) { return linear.form == WeightForm::kTiles4; };
  const SmallProblem first_problem = small_problem(first);
  const HalfInputs first_inputs = half_inputs_of(first, first_problem);
  CudaArray* no_outs[] = {&residual};
  const Job second{&between, down, 1, no_outs, residual.memory.as<float>()};
  const SmallProblem second_problem = small_problem(second);
  const HalfInputs second_inputs = half_inputs_of(second, second_problem);
  if (input.source != Source::kNorm || !takes(first_inputs) || !takes(second_inputs)) return false;

  gate_out.dtype = up_out.dtype = mlp.gate.compute;
  launch_gated_one_token4(first_problem, first_inputs, nested(mlp.gate), mlp.activation, stream_);
  launch_one_token4(second_problem, second_inputs, nested(mlp.down), stream_);
  return true;
}

}  // namespace qtool::cuda
