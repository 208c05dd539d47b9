// Weights in plain rows, LLM.int8 or 16 bits, as small_linear.cuh's kernel wants them: as filed they are the
// tensor cores' A operand.
#pragma once

#include "cuda/small_linear.cuh"

namespace qtool::cuda {

// What the Formats of such rows share; kElement bytes are a value.
template <int kElement>
struct PlainRows {
  static constexpr int kPieces = 2 * kElement;       // of 64 bytes, in a unit's row: 4 lanes have 16 each
  static constexpr int kWeightCopies = 2 * kPieces;  // (piece, row g or g + 8)
  static constexpr int kInputCopies = kPieces;
  static constexpr int kInputElement = kElement;
  static constexpr int kScaleBytes = 0;
  static constexpr int kUnitStride = kUnitColumns * kElement;
  static constexpr int kTableBytes = 0;

  static __device__ __forceinline__ const char* weight_source(const SmallProblem& p, const SmallPart& part,
                                                              int tile, int unit, const Lane& me) {
    const int row = min(tile * kTileRows + me.row, part.out - 1);
    return static_cast<const char*>(part.weight) +
           (static_cast<std::int64_t>(row) * p.columns + unit * kUnitColumns + me.column * (16 / kElement)) *
               kElement;
  }
  // Distance from row g to row g + 8, 0 if that is missing.
  using ScaleSource = std::int64_t;
  static __device__ __forceinline__ ScaleSource scale_source(const SmallProblem& p, const SmallPart& part,
                                                             int tile, int, const Lane& me) {
    const int row = tile * kTileRows + me.row;
    return static_cast<std::int64_t>(row + 8 < part.out ? 8 * kElement : 0) * p.columns;
  }
  static __device__ __forceinline__ void copy_weights(const SmallProblem& p, const char* from, unsigned to,
                                                      int unit, const Lane& me, ScaleSource distance) {
    const int column = unit * kUnitColumns + me.column * (16 / kElement);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const bool real = column + piece * (64 / kElement) < p.columns;
      copy16(to + (piece * 2) * 512, from + (real ? piece * 64 : 0), real);
      copy16(to + (piece * 2 + 1) * 512, from + distance + (real ? piece * 64 : 0), real);
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
                      (static_cast<std::int64_t>(row) * p.columns + unit * kUnitColumns) * kElement,
                  columns * kElement);
  }
};

}  // namespace qtool::cuda
