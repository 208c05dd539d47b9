// A gated MLP of one token in two launches: the first leaves act(gate) * up, the second reads it.
#include "cuda/linear.h"
#include "cuda/one_token4.h"
#include "cuda/own.h"
#include "cuda/small_linear.h"

namespace qtool::cuda {

bool LinearRunner::run_gated(const LinearInput& input, const GatedMlp& mlp, CudaArray& gate_out,
                             CudaArray& up_out, CudaArray& residual) {
  if (isolated_) return false;  // one token is computed as many are
  const CudaLinear* linears[] = {&mlp.gate, &mlp.up};
  const CudaLinear* down[] = {&mlp.down};
  for (const CudaLinear* linear : {linears[0], linears[1], down[0]})
    if (!is_tiles(*linear) || !takes_small(*linear, device_.capability)) return false;
  if (!can_share(mlp.gate, mlp.up) || mlp.gate.out != mlp.up.out || mlp.gate.compute != mlp.down.compute)
    return false;
  require(mlp.gate.out == gate_out.cols && mlp.up.out == up_out.cols && mlp.gate.out == mlp.down.in &&
              mlp.down.out == residual.cols,
          "the widths of a gated MLP agree");
  const auto takes = [&](const HalfInputs& inputs) {
    return takes_one_token(inputs, device_.capability, device_.shared_bytes);
  };
  const auto nested = [](const CudaLinear& linear) { return linear.form == WeightForm::kTiles4; };

  CudaArray* outs[] = {&gate_out, &up_out};
  const Job first{&input, linears, 1, outs, nullptr};
  const SmallProblem first_problem = small_problem(first);
  const HalfInputs first_inputs = half_inputs_of(first, first_problem);
  LinearInput between;
  between.x = {gate_out.memory.as<void>(), mlp.gate.compute};
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
