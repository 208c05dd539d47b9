// Few tokens, LLM.int8: the codes as filed are the integer tensor core
// instruction's A operand, so nothing is decoded. The epilogue follows
// bitsandbytes step by step, see core/cpu/int8_linear.cpp; outlier columns,
// which are 0 in the integer product, come on top in float32.
#include "cuda/int8_linear.cuh"
#include "cuda/small_linear.cuh"

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

struct Int8Rows {
  using Sum = int;
  static constexpr int kWeightCopies = 4;  // (half of the unit, row g or g + 8)
  static constexpr int kInputCopies = 2;
  static constexpr int kInputElement = 1;
  static constexpr int kScaleBytes = 0;
  static constexpr int kUnitStride = kUnitColumns;
  static constexpr int kTableBytes = 0;

  static __device__ __forceinline__ const char* weight_source(const SmallProblem& p, const SmallPart& part,
                                                              int tile, int unit, const Lane& me) {
    const int row = min(tile * kTileRows + me.row, part.out - 1);
    return static_cast<const char*>(part.weight) + static_cast<std::int64_t>(row) * p.columns +
           unit * kUnitColumns + me.column * 16;
  }
  // Distance from row g to row g + 8, 0 if that is missing.
  using ScaleSource = std::int64_t;
  static __device__ __forceinline__ ScaleSource scale_source(const SmallProblem& p, const SmallPart& part,
                                                             int tile, int, const Lane& me) {
    const int row = tile * kTileRows + me.row;
    return static_cast<std::int64_t>(row + 8 < part.out ? 8 : 0) * p.columns;
  }
  static __device__ __forceinline__ void copy_weights(const SmallProblem& p, const char* from, unsigned to,
                                                      int unit, const Lane& me, ScaleSource distance) {
    const int column = unit * kUnitColumns + me.column * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool real = column + half * 64 < p.columns;
      copy16(to + (half * 2) * 512, from + (real ? half * 64 : 0), real);
      copy16(to + (half * 2 + 1) * 512, from + distance + (real ? half * 64 : 0), real);
    }
  }
  static __device__ __forceinline__ void fill_tables(const SmallProblem&, char*) {}
  struct State {
    __device__ State(const SmallProblem&, char*, const Lane&) {}
  };
  static __device__ __forceinline__ void prefetch(const SmallProblem& p, const SmallPart& part, int tile,
                                                  int unit, int units, const Lane& me) {
    const int row = tile * kTileRows + me.lane;
    const int bytes = min(units * kUnitColumns, p.columns - unit * kUnitColumns);
    if (me.lane < kTileRows && row < part.out && bytes > 0)
      prefetch_l2(static_cast<const char*>(part.weight) + static_cast<std::int64_t>(row) * p.columns +
                      unit * kUnitColumns,
                  bytes);
  }

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
