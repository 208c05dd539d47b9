// Few tokens, dense 16-bit rows: the weights as filed are the A operand.
#include "cuda/mma16.cuh"
#include "cuda/small_rows.cuh"

namespace qtool::cuda {
namespace {

template <typename T>
struct DenseRows : PlainRows<2> {
  using Sum = float;
  using State = PlainRows<2>::State;

  template <int kGroup, int kTokenTiles, typename Read>
  static __device__ __forceinline__ void multiply(const State&, const float (&)[kGroup],
                                                  const SmallProblem& p, unsigned weights, unsigned,
                                                  unsigned inputs, int token_lanes, const Lane& me,
                                                  Read inputs_are_read,
                                                  float (&total)[kGroup][kTokenTiles][4]) {
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      uint4 b[kTokenTiles];
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        b[n] = uint4{0, 0, 0, 0};
        if (n * 8 + me.row < p.tokens)
          b[n] = load_shared16(inputs + (n * kInputCopies + quarter) * token_lanes * 64);
      }
      if (quarter == 3) inputs_are_read();
#pragma unroll
      for (int r = 0; r < kGroup; ++r) {
        const uint4 row = load_shared16(weights + (r * kWeightCopies + quarter * 2) * 512);
        const uint4 row8 = load_shared16(weights + (r * kWeightCopies + quarter * 2 + 1) * 512);
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          mma16<T>(total[r][n], row.x, row8.x, row.y, row8.y, b[n].x, b[n].y);
          mma16<T>(total[r][n], row.z, row8.z, row.w, row8.w, b[n].z, b[n].w);
        }
      }
    }
  }

  static __device__ __forceinline__ float finish(const SmallProblem&, const SmallPart& part, float sum,
                                                 int row, int) {
    return sum + (part.bias ? part.bias[row] : 0.0f);
  }
};

}  // namespace

void launch_small16(const SmallProblem& problem, DType dense, cudaStream_t stream) {
  if (dense == DType::kF16)
    launch_small_tokens<DenseRows<__half>, 1, 2>(problem, stream);
  else
    launch_small_tokens<DenseRows<__nv_bfloat16>, 1, 2>(problem, stream);
}

}  // namespace qtool::cuda
