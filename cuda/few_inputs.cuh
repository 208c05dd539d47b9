// The inputs of a product with 2 to 8 tokens (few4.cu), as a cluster of two thread blocks makes them for
// itself: each half of the columns, a warp a unit of 128 columns at a time. Values are rounded to the layer's
// type T, then scaled by a power of two per token and unit into half precision.
//
// A unit in shared memory: 4 vectors of 8 columns for each lane, as B operands of mma.sync, then what undoes
// the powers of 8 tokens. Lane 4g + t has token g; its vectors begin at columns 8t, 32 + 8t, 64 + 8t, 96 +
// 8t.
#pragma once

#include <type_traits>

#include "cuda/device_math.cuh"
#include "cuda/one_token_inputs.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {

constexpr int kFewWarps = 16;
constexpr int kFewVectors = 4 * 32 * 16;  // bytes of a unit
constexpr int kFewUnitBytes = kFewVectors + 8 * 4;

// What undoes the powers of tokens 2t and 2t + 1, the columns of a sum that lane column t has.
__device__ __forceinline__ float2 few_undo(unsigned unit, const Lane& me) {
  float2 undo;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(undo.x), "=f"(undo.y)
               : "r"(unit + kFewVectors + me.column * 8));
  return undo;
}

// kWide: x is float32; else of type T. kAtOnce units of a warp are loaded together.
template <typename T, bool kWide, int kAtOnce>
class FewInputs {
 public:
  // Units [first, first + count) of the rows, of which a thread block has a share, go to shared memory `to`.
  __device__ FewInputs(const HalfInputs& in, const Lane& lane, int first, int count, unsigned shared)
      : me(lane),
        units(count),
        left(static_cast<int>(in.cols) - first * kUnitColumns - lane.column * 8),
        real(lane.row < in.rows),
        x(static_cast<const char*>(in.x.data) +
          (lane.row * in.cols + first * kUnitColumns + lane.column * 8) * kElement),
        to(shared) {}

  __device__ __forceinline__ void stage() const {
#pragma unroll 1
    for (int unit = me.warp; unit < units; unit += kAtOnce * kFewWarps) {
      uint4 raw[kAtOnce][4][kPieces];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) load(unit + j * kFewWarps, raw[j]);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
        if (unit + j * kFewWarps < units) put(unit + j * kFewWarps, raw[j]);
    }
  }

 private:
  static constexpr int kElement = kWide ? 4 : 2, kPieces = kElement / 2;  // of 16 bytes, in 8 columns

  __device__ __forceinline__ void load(int unit, uint4 (&raw)[4][kPieces]) const {
    const char* from = x + unit * kUnitColumns * kElement;
    const int rest = real && unit < units ? left - unit * kUnitColumns : 0;
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        raw[k][i] = {};
        if (k * 32 < rest) raw[k][i] = __ldcg(reinterpret_cast<const uint4*>(from + k * 32 * kElement) + i);
      }
  }
  static __device__ __forceinline__ void widen(const uint4 (&raw)[kPieces], float (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float4 w;
      if constexpr (kWide) {
        w = {__uint_as_float(raw[i].x), __uint_as_float(raw[i].y), __uint_as_float(raw[i].z),
             __uint_as_float(raw[i].w)};
        w = {rounded<T>(w.x), rounded<T>(w.y), rounded<T>(w.z), rounded<T>(w.w)};
      } else {
        w = widened<std::is_same_v<T, __half>>(i == 0 ? uint2{raw[0].x, raw[0].y}
                                                      : uint2{raw[0].z, raw[0].w});
      }
      v[i * 4] = w.x;
      v[i * 4 + 1] = w.y;
      v[i * 4 + 2] = w.z;
      v[i * 4 + 3] = w.w;
    }
  }
  __device__ __forceinline__ void put(int unit, const uint4 (&raw)[4][kPieces]) const {
    float v[4][8], top = 0.0f;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      widen(raw[k], v[k]);
#pragma unroll
      for (int i = 0; i < 8; ++i) top = fmaxf(top, fabsf(v[k][i]));
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float power = power_for(top);
    const unsigned at = to + unit * kFewUnitBytes;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      unsigned packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const __half2 pair = __floats2half2_rn(v[k][i * 2] * power, v[k][i * 2 + 1] * power);
        packed[i] = *reinterpret_cast<const unsigned*>(&pair);
      }
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at + k * 512 + me.lane * 16),
                   "r"(packed[0]), "r"(packed[1]), "r"(packed[2]), "r"(packed[3])
                   : "memory");
    }
    if (me.column == 0)
      asm volatile("st.shared.f32 [%0], %1;" ::"r"(at + kFewVectors + me.row * 4), "f"(1.0f / power)
                   : "memory");
  }

  const Lane& me;
  int units, left;  // columns from this lane's first on
  bool real;        // its token
  const char* x;
  unsigned to;
};

}  // namespace qtool::cuda
