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
