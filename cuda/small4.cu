// Few tokens, 4-bit tiles. Two codes at a time become two half-precision
// centroids by one look-up: a byte's 256 values in shared memory, 32 copies
// side by side so that no two lanes ever meet in a bank. The address is made by
// one byte permutation. Scales are applied to the float32 sums of 64 columns,
// so that centroids keep 11 bits and scales all of theirs.
#include "core/quant/codebook.h"
#include "cuda/mma16.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

// Half-precision centroids by code. FP4's are multiplied by 12, which makes
// them exact; its scales are divided by it.
struct Centroids {
  float values[16];
};
constexpr float kFp4Unit = 12.0f;
__constant__ Centroids kCentroids[2];  // by Code4

constexpr int kPitch = 256;  // bytes from one entry of the table to the next:
                             // the byte lands in bits 8-15
constexpr int kPairTable = 256 * kPitch;

template <bool kNested>
struct Tiles {
  using Sum = float;
  static constexpr int kWeightCopies = 2;
  static constexpr int kInputCopies = 4;
  static constexpr int kInputElement = 2;
  static constexpr int kScaleBytes = 128;                     // in shared memory: 16 per row g
  static constexpr int kScaleFileBytes = kNested ? 32 : 128;  // in device memory
  static constexpr int kUnitStride = 1024;
  // The table's entries take half a pitch each; the dynamic map lives in the
  // other half of the first eight.
  static constexpr int kTableBytes = kPairTable;

  static __device__ __forceinline__ const char* weight_source(const SmallProblem& p, const SmallPart& part,
                                                              int tile, int unit, const Lane& me) {
    return static_cast<const char*>(part.weight) +
           (static_cast<std::int64_t>(tile) * p.units + unit) * kUnitStride + me.lane * 16;
  }
  // What a lane copies of a tile's scales: lane column 0 the codes of rows g
  // and g + 8, columns 1 and 2 the nested absmax of either row; so row g finds
  // all in 16 bytes. Without nesting, column 0 copies the 16 bytes of scales.
  struct ScaleSource {
    const char* base;
    int index;
  };
  static __device__ __forceinline__ ScaleSource scale_source(const SmallProblem& p, const SmallPart& part,
                                                             int tile, int unit, const Lane& me) {
    const char* codes = static_cast<const char*>(part.scales) +
                        (static_cast<std::int64_t>(tile) * p.units + unit) * kScaleFileBytes +
                        me.row * (kScaleFileBytes / 8);
    if (!kNested || me.column == 0) return {codes, 0};
    const int row = min(tile * kTileRows + me.row + (me.column == 2 ? 8 : 0), part.out - 1);
    return {reinterpret_cast<const char*>(part.nested), row * p.units};
  }
  static __device__ __forceinline__ void copy_weights(const SmallProblem&, const char* from, unsigned to, int,
                                                      const Lane&, const ScaleSource&) {
    copy16(to, from, true);
    copy16(to + 512, from + 512, true);
  }
  static __device__ __forceinline__ void copy_scales(const SmallProblem& p, ScaleSource& from, unsigned to,
                                                     int unit, const Lane& me) {
    if constexpr (kNested) {
      const char* at = me.column == 0 ? from.base : from.base + ((from.index + unit) >> p.nested_shift) * 4;
      if (me.column < 3) copy4(to + me.column * 4, at);
      if (me.column == 0) from.base += kScaleFileBytes;
    } else {
      if (me.column == 0) copy16(to, from.base, true);
      from.base += kScaleFileBytes;
    }
  }

  static __device__ __forceinline__ float* map_entry(char* table, int code) {
    return reinterpret_cast<float*>(table + code / 32 * kPitch + 128 + code % 32 * 4);
  }
  static __device__ __forceinline__ void fill_tables(const SmallProblem& p, char* table) {
    const float* centroids = kCentroids[static_cast<int>(p.code)].values;
    for (int byte = threadIdx.x / 32; byte < 256; byte += kSmallWarps) {
      const __half2 pair = __floats2half2_rn(centroids[byte >> 4], centroids[byte & 15]);
      *reinterpret_cast<__half2*>(table + byte * kPitch + threadIdx.x % 32 * 4) = pair;
    }
    if constexpr (kNested)
      for (int code = threadIdx.x; code < 256; code += kSmallThreads) *map_entry(table, code) = p.map[code];
  }

  struct State {
    const char* table;
    unsigned lane4;
    __device__ State(const SmallProblem&, char* memory, const Lane& me)
        : table(memory), lane4(static_cast<unsigned>(me.lane) * 4) {}

    template <int kByte>
    __device__ __forceinline__ unsigned pair(unsigned bytes) const {
      const unsigned at = __byte_perm(bytes, lane4, 0x7704 | (kByte << 4));  // byte << 8 | lane * 4
      return *reinterpret_cast<const unsigned*>(table + at);
    }
    __device__ __forceinline__ float map(unsigned code) const {
      return *reinterpret_cast<const float*>(table + (code >> 5) * kPitch + 128 + (code & 31) * 4);
    }
  };

  static __device__ __forceinline__ void prefetch(const SmallProblem& p, const SmallPart& part, int tile,
                                                  int unit, int units, const Lane& me) {
    if (me.lane == 0)
      prefetch_l2(static_cast<const char*>(part.weight) +
                      (static_cast<std::int64_t>(tile) * p.units + unit) * kUnitStride,
                  units * kUnitStride);
  }

  template <int kGroup, int kTokenTiles, typename Read>
  static __device__ __forceinline__ void multiply(const State& state, const float (&offsets)[kGroup],
                                                  const SmallProblem& p, unsigned weights, unsigned scales,
                                                  unsigned inputs, int token_lanes, const Lane& me,
                                                  Read inputs_are_read,
                                                  float (&total)[kGroup][kTokenTiles][4]) {
    float scale[kGroup][2][2];  // [tile][row g or g + 8][half of the unit]
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      const uint4 s = load_shared16(scales + r * kScaleBytes);
      if constexpr (kNested) {
        const float n0 = __uint_as_float(s.y), n1 = __uint_as_float(s.z);
        scale[r][0][0] = fmaf(state.map(s.x & 255), n0, offsets[r]);
        scale[r][0][1] = fmaf(state.map(s.x >> 8 & 255), n0, offsets[r]);
        scale[r][1][0] = fmaf(state.map(s.x >> 16 & 255), n1, offsets[r]);
        scale[r][1][1] = fmaf(state.map(s.x >> 24), n1, offsets[r]);
      } else {
        scale[r][0][0] = __uint_as_float(s.x);
        scale[r][0][1] = __uint_as_float(s.y);
        scale[r][1][0] = __uint_as_float(s.z);
        scale[r][1][1] = __uint_as_float(s.w);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint4 b[kTokenTiles][2];
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const unsigned at = inputs + (n * kInputCopies + half * 2) * token_lanes * 64;
        b[n][0] = b[n][1] = uint4{0, 0, 0, 0};
        if (n * 8 + me.row < p.tokens) {
          b[n][0] = load_shared16(at);
          b[n][1] = load_shared16(at + token_lanes * 64);
        }
      }
      if (half == 1) inputs_are_read();
#pragma unroll
      for (int r = 0; r < kGroup; ++r) {
        const uint4 q = load_shared16(weights + (r * kWeightCopies + half) * 512);
        const unsigned a[4][4] = {
            {state.pair<0>(q.x), state.pair<0>(q.z), state.pair<1>(q.x), state.pair<1>(q.z)},
            {state.pair<2>(q.x), state.pair<2>(q.z), state.pair<3>(q.x), state.pair<3>(q.z)},
            {state.pair<0>(q.y), state.pair<0>(q.w), state.pair<1>(q.y), state.pair<1>(q.w)},
            {state.pair<2>(q.y), state.pair<2>(q.w), state.pair<3>(q.y), state.pair<3>(q.w)}};
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          float d[4] = {};
          mma16(d, a[0], b[n][0].x, b[n][0].y);
          mma16(d, a[1], b[n][0].z, b[n][0].w);
          mma16(d, a[2], b[n][1].x, b[n][1].y);
          mma16(d, a[3], b[n][1].z, b[n][1].w);
          total[r][n][0] = fmaf(scale[r][0][half], d[0], total[r][n][0]);
          total[r][n][1] = fmaf(scale[r][0][half], d[1], total[r][n][1]);
          total[r][n][2] = fmaf(scale[r][1][half], d[2], total[r][n][2]);
          total[r][n][3] = fmaf(scale[r][1][half], d[3], total[r][n][3]);
        }
      }
    }
  }

  static __device__ __forceinline__ float finish(const SmallProblem& p, const SmallPart& part, float sum,
                                                 int row, int token) {
    const float unit = p.code == Code4::kFp4 ? 1.0f / kFp4Unit : 1.0f;
    return sum * (unit * p.x_scales[token]) + (part.bias ? part.bias[row] : 0.0f);
  }
};

}  // namespace

void prepare_small_kernels() {
  Centroids centroids[2];
  for (const Code4 code : {Code4::kNf4, Code4::kFp4})
    for (int i = 0; i < 16; ++i)
      centroids[static_cast<int>(code)].values[i] =
          decoded(codebook(code), i) * (code == Code4::kFp4 ? kFp4Unit : 1.0f);
  check(cudaMemcpyToSymbol(kCentroids, centroids, sizeof centroids), "uploading the codebooks");
}

void launch_small4(const SmallProblem& problem, bool nested, cudaStream_t stream) {
  if (nested)
    launch_small_tokens<Tiles<true>, 2, 3>(problem, stream);
  else
    launch_small_tokens<Tiles<false>, 2, 3>(problem, stream);
}

}  // namespace qtool::cuda
