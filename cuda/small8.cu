// Few tokens, LLM.int8: the codes as filed are the integer tensor core
// instruction's A operand, so nothing is decoded. The epilogue follows
// bitsandbytes step by step, see core/cpu/int8_linear.cpp; outlier columns,
// which are 0 in the integer product, come on top in float32.
#include "cuda/int8_linear.cuh"
#include "cuda/small_rows.cuh"

namespace qtool::cuda {
namespace {

__device__ __forceinline__ void mma_int8(int (&d)[4], const uint4& rows, const uint4& rows8, unsigned b0,
                                         unsigned b1, bool upper) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, "
      "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(upper ? rows.z : rows.x), "r"(upper ? rows8.z : rows8.x), "r"(upper ? rows.w : rows.y),
        "r"(upper ? rows8.w : rows8.y), "r"(b0), "r"(b1));
#endif
}

struct Int8Rows : PlainRows<1> {
  using Sum = int;

  template <int kGroup, int kTokenTiles, typename Read>
  static __device__ __forceinline__ void multiply(const State&, const float (&)[kGroup],
                                                  const SmallProblem& p, unsigned weights, unsigned,
                                                  unsigned inputs, int token_lanes, const Lane& me,
                                                  Read inputs_are_read,
                                                  int (&total)[kGroup][kTokenTiles][4]) {
    uint4 b[kTokenTiles][2];
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      b[n][0] = b[n][1] = uint4{0, 0, 0, 0};
      if (n * 8 + me.row < p.tokens) {
        const unsigned at = inputs + n * kInputCopies * token_lanes * 64;
        b[n][0] = load_shared16(at);
        b[n][1] = load_shared16(at + token_lanes * 64);
      }
    }
    inputs_are_read();
#pragma unroll
    for (int r = 0; r < kGroup; ++r)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 row = load_shared16(weights + (r * kWeightCopies + half * 2) * 512);
        const uint4 row8 = load_shared16(weights + (r * kWeightCopies + half * 2 + 1) * 512);
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          mma_int8(total[r][n], row, row8, b[n][half].x, b[n][half].y, false);
          mma_int8(total[r][n], row, row8, b[n][half].z, b[n][half].w, true);
        }
      }
  }

  static __device__ __forceinline__ float finish(const SmallProblem& p, const SmallPart& part, int sum,
                                                 int row, int token) {
    const float row_absmax = static_cast<const float*>(part.scales)[row];
    const float value =
        int8_value(sum, p.x_scales[token], row_absmax, part.bias ? part.bias + row : nullptr, p.type);
    const OutlierView outliers{p.outlier_count, p.outlier_columns, p.outlier_x, p.columns};
    return add_outliers(value, outliers, static_cast<const std::int8_t*>(part.weight), row, row_absmax, token,
                        p.type);
  }
};

}  // namespace

void launch_small8(const SmallProblem& problem, cudaStream_t stream) {
  launch_small_tokens<Int8Rows, 2, 4>(problem, stream);
}

}  // namespace qtool::cuda
