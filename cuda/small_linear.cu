#include <bit>

#include "core/error.h"
#include "cuda/launch.cuh"
#include "cuda/small_linear.h"

namespace qtool::cuda {

bool takes_small(const CudaLinear& linear, int capability) {
  if (capability < 80 || linear.compute == DType::kF32) return false;
  switch (linear.form) {
    case WeightForm::kTiles4:
    case WeightForm::kTiles4F:
      return true;
    case WeightForm::kInt8:  // copies are 16 bytes
      return linear.in % 16 == 0;
    case WeightForm::kDense:
      return linear.dense_dtype == linear.compute && linear.in % 8 == 0;
    case WeightForm::kBlock4:
      return false;
  }
  return false;
}

SmallPart small_part(const CudaLinear& linear) {
  SmallPart part;
  part.weight = linear.weight();
  part.scales = linear.scales.as<void>();
  part.nested = linear.nested.as<float>();
  part.bias = linear.bias.as<float>();
  part.offset = linear.offset;
  part.out = static_cast<int>(linear.out);
  part.row_tiles = static_cast<int>(ceil_div(linear.out, kTileRows));
  return part;
}

SmallProblem pass_of(const SmallProblem& whole, std::int64_t first, std::int64_t count,
                     std::int64_t x_bytes) {
  constexpr std::int64_t kElement = 2;  // of results and outliers
  SmallProblem pass = whole;
  pass.tokens = static_cast<int>(count);
  pass.x = static_cast<const char*>(whole.x) + first * x_bytes;
  if (whole.x_scales) pass.x_scales = whole.x_scales + first;
  if (whole.outlier_x)
    pass.outlier_x = static_cast<const char*>(whole.outlier_x) + first * whole.columns * kElement;
  if (whole.residual) pass.residual = whole.residual + first * whole.parts[0].out;
  for (int i = 0; i < whole.part_count; ++i)
    pass.parts[i].y = static_cast<char*>(whole.parts[i].y) + first * whole.parts[i].out * kElement;
  return pass;
}

void launch_small(const SmallProblem& problem, WeightForm form, DType dense, cudaStream_t stream) {
  switch (form) {
    case WeightForm::kTiles4:
      return launch_small4(problem, true, stream);
    case WeightForm::kTiles4F:
      return launch_small4(problem, false, stream);
    case WeightForm::kInt8:
      return launch_small8(problem, stream);
    case WeightForm::kDense:
      return launch_small16(problem, dense, stream);
    case WeightForm::kBlock4:
      throw internal_error("packed 4-bit weights have no kernel for few tokens");
  }
}

}  // namespace qtool::cuda
