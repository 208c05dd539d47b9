// Few tokens, dense 16-bit rows: the weights as filed are the A operand.
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

template <typename T>
__device__ __forceinline__ void mma16(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                      unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  if constexpr (__is_same(T, __half))
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}

template <typename T>
struct DenseRows {
  using Sum = float;
  static constexpr int kWeightCopies = 8;  // (64-byte quarter of the unit's row, row g or g + 8)
  static constexpr int kInputCopies = 4;
  static constexpr int kInputElement = 2;
  static constexpr int kScaleBytes = 0;
  static constexpr int kUnitStride = kUnitColumns * 2;
  static constexpr int kTableBytes = 0;

  static __device__ __forceinline__ const char* weight_source(const SmallProblem& p, const SmallPart& part,
                                                              int tile, int unit, const Lane& me) {
    const int row = min(tile * kTileRows + me.row, part.out - 1);
    return static_cast<const char*>(part.weight) +
           (static_cast<std::int64_t>(row) * p.columns + unit * kUnitColumns + me.column * 8) * 2;
  }
  // Distance from row g to row g + 8, 0 if that is missing.
  using ScaleSource = std::int64_t;
  static __device__ __forceinline__ ScaleSource scale_source(const SmallProblem& p, const SmallPart& part,
                                                             int tile, int, const Lane& me) {
    const int row = tile * kTileRows + me.row;
    return static_cast<std::int64_t>(row + 8 < part.out ? 16 : 0) * p.columns;
  }
  static __device__ __forceinline__ void copy_weights(const SmallProblem& p, const char* from, unsigned to,
                                                      int unit, const Lane& me, ScaleSource distance) {
    const int column = unit * kUnitColumns + me.column * 8;
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const bool real = column + quarter * 32 < p.columns;
      copy16(to + (quarter * 2) * 512, from + (real ? quarter * 64 : 0), real);
      copy16(to + (quarter * 2 + 1) * 512, from + distance + (real ? quarter * 64 : 0), real);
    }
  }
  static __device__ __forceinline__ void fill_tables(const SmallProblem&, char*) {}
  struct State {
    __device__ State(const SmallProblem&, char*, const Lane&) {}
  };
  static __device__ __forceinline__ void prefetch(const SmallProblem& p, const SmallPart& part, int tile,
                                                  int unit, int units, const Lane& me) {
    const int row = tile * kTileRows + me.lane;
    const int columns = min(units * kUnitColumns, p.columns - unit * kUnitColumns);
    if (me.lane < kTileRows && row < part.out && columns > 0)
      prefetch_l2(static_cast<const char*>(part.weight) +
                      (static_cast<std::int64_t>(row) * p.columns + unit * kUnitColumns) * 2,
                  columns * 2);
  }

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
