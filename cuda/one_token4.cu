// One token, 4-bit tiles: the kernel that decoding a single sequence is made
// of. Beyond what small4.cu does,
//
//   - it makes its inputs itself (norm, gated product or plain values, rounded,
//   scaled into half precision): every
//     thread block repeats that work, which is shorter than another kernel in
//     between;
//   - its 16 warps take equal, consecutive shares of the thread block's tiles
//   and meet once, at the end;
//   - it leaves room for the next kernel in every multiprocessor, which fills
//   its table and asks for its first weights
//     while this one still runs: the weights in flight lie in the gaps of the
//     table.
#include <algorithm>
#include <type_traits>

#include "core/quant/codebook.h"
#include "cuda/activate.cuh"
#include "cuda/one_token4.h"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
constexpr int kDepth = 2;         // units in flight per warp
constexpr int kNormVectors = 3;   // of 4 float32 inputs that a thread holds in registers: 6144 columns
constexpr int kPlainVectors = 6;  // of 4 inputs of 16 bits: 12288 columns
constexpr int kPitch = 256;       // bytes of a table entry: 128 of copies for the
                                  // lanes, 128 for weights in flight
constexpr int kTableBytes = 256 * kPitch;
constexpr int kScaleSlot = 128;
constexpr int kMostShared = 140 * 1024;

struct Problem {
  SmallProblem linear;
  HalfInputs inputs;
  float centroids[16];
  float unit;    // what the centroids' scale is divided by
  int segments;  // row tiles that one warp's share can touch
};

__device__ __forceinline__ void mma16(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                      unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}

__device__ __forceinline__ float4 widened(uint2 raw, bool half) {
  if (half) {
    const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&raw.x));
    const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&raw.y));
    return {a.x, a.y, b.x, b.y};
  }
  return {__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u), __uint_as_float(raw.y << 16),
          __uint_as_float(raw.y & 0xffff0000u)};
}

// The final rounding to 16 bits leaves no trace of the fast exponential's last
// bits.
__device__ __forceinline__ float gated(float x, float up, Activation activation) {
  if (activation == Activation::kSilu) return __fdividef(x, 1.0f + __expf(-x)) * up;
  return activate(x, activation) * up;
}

// A thread's share of the token's inputs: vectors of 4, kThreads apart. All
// loads are issued before the first is used.
template <Source kSource>
struct Inputs {
  static constexpr int kVectors = kSource == Source::kNorm ? kNormVectors : kPlainVectors;
  using Raw = std::conditional_t<kSource == Source::kNorm, float4, uint2>;
  Raw x[kVectors];
  float4 weight[kSource == Source::kNorm ? kVectors : 1];
  uint2 up[kSource == Source::kGated ? kVectors : 1];

  static __device__ __forceinline__ int column(int j) {
    return (static_cast<int>(threadIdx.x) + j * kThreads) * 4;
  }

  // What depends on no other kernel.
  __device__ __forceinline__ void load_weights(const HalfInputs& in) {
    if constexpr (kSource == Source::kNorm) {
      const auto cols = static_cast<int>(in.cols);
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (column(j) >= cols) continue;
        if (in.weight.dtype == DType::kF32)
          weight[j] = *reinterpret_cast<const float4*>(static_cast<const float*>(in.weight.data) + column(j));
        else
          weight[j] =
              widened(*reinterpret_cast<const uint2*>(static_cast<const __half*>(in.weight.data) + column(j)),
                      in.weight.dtype == DType::kF16);
      }
    }
  }
  __device__ __forceinline__ void load(const HalfInputs& in) {
    const auto cols = static_cast<int>(in.cols);
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      x[j] = Raw{};
      if (column(j) < cols)
        x[j] = __ldcg(reinterpret_cast<const Raw*>(static_cast<const char*>(in.x.data) +
                                                   column(j) * (sizeof(Raw) / 4)));
    }
    if constexpr (kSource == Source::kGated) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j)
        if (column(j) < cols)
          up[j] =
              __ldcg(reinterpret_cast<const uint2*>(static_cast<const char*>(in.up.data) + column(j) * 2));
    }
  }

  // As halves in shared memory; returns the factor that undoes their scale.
  __device__ __forceinline__ float stage(const HalfInputs& in, __half* out, float* scratch) {
    const auto cols = static_cast<int>(in.cols);
    const bool half = in.compute == DType::kF16;
    float factor = 1.0f;
    if constexpr (kSource == Source::kNorm) {
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kVectors; ++j)
        sum += x[j].x * x[j].x + x[j].y * x[j].y + x[j].z * x[j].z + x[j].w * x[j].w;
      factor = 1.0f / sqrtf(block_sum<kThreads>(sum, scratch) / static_cast<float>(cols) + in.eps);
    }
    float4 v[kVectors];
    float top = 0.0f;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if constexpr (kSource == Source::kNorm)
        v[j] = {weight[j].x * (x[j].x * factor), weight[j].y * (x[j].y * factor),
                weight[j].z * (x[j].z * factor), weight[j].w * (x[j].w * factor)};
      else
        v[j] = widened(x[j], half);
      if constexpr (kSource == Source::kGated) {
        const float4 u = widened(up[j], half);
        v[j] = {gated(v[j].x, u.x, in.activation), gated(v[j].y, u.y, in.activation),
                gated(v[j].z, u.z, in.activation), gated(v[j].w, u.w, in.activation)};
      }
      if (column(j) >= cols) v[j] = {};
      float* values = &v[j].x;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        values[i] = half ? rounded<__half>(values[i]) : rounded<__nv_bfloat16>(values[i]);
        top = fmaxf(top, fabsf(values[i]));
      }
    }
    const float power = power_for(block_max<kThreads>(top, scratch + kWarps));
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (column(j) >= static_cast<int>(in.padded)) continue;
      const __half2 pairs[2] = {__floats2half2_rn(v[j].x * power, v[j].y * power),
                                __floats2half2_rn(v[j].z * power, v[j].w * power)};
      *reinterpret_cast<uint2*>(out + column(j)) = *reinterpret_cast<const uint2*>(pairs);
    }
    return 1.0f / power;
  }
};

template <bool kNested, Source kSource>
__global__ void __launch_bounds__(kThreads, 2) one_token_kernel(const __grid_constant__ Problem p) {
  constexpr int kScaleBytes = kNested ? 32 : 128;  // of a unit in device memory
  extern __shared__ __align__(1024) char table[];
  char* scale_slots = table + kTableBytes;  // [warp][depth][128]
  auto* map = reinterpret_cast<float*>(scale_slots + kWarps * kDepth * kScaleSlot);
  auto* inputs = reinterpret_cast<__half*>(map + 256);                            // [units * 128]
  auto* sums = reinterpret_cast<float*>(inputs + p.linear.units * kUnitColumns);  // [warp][segments][16]
  __shared__ float scratch[2 * kWarps];
  const Lane me{static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4), static_cast<int>(threadIdx.x % 4)};
  const int units = p.linear.units;

  int all_tiles = 0;
  for (int i = 0; i < p.linear.part_count; ++i) all_tiles += p.linear.parts[i].row_tiles;
  const int first_tile = static_cast<int>(static_cast<std::int64_t>(blockIdx.x) * all_tiles / gridDim.x);
  const int end_tile = static_cast<int>((static_cast<std::int64_t>(blockIdx.x) + 1) * all_tiles / gridDim.x);
  const int all_steps = (end_tile - first_tile) * units;
  const auto first_step_of = [&](int warp) { return warp * all_steps / kWarps; };
  const int begin = first_step_of(me.warp), end = first_step_of(me.warp + 1);

  // The copying side: where the next unit lies, and that of its row tile's
  // scales.
  int copy_step = begin, copy_unit = begin % units, copy_stage = 0;
  const char* source = nullptr;
  const char* scale_source = nullptr;  // lane column 0: the tile's codes; 1, 2:
                                       // nested absmax of rows g, g + 8
  int nested_index = 0;
  const auto aim = [&] {
    int tile = first_tile + copy_step / units;
    const SmallPart& part = part_of(p.linear, tile);
    const std::int64_t at = static_cast<std::int64_t>(tile) * units + copy_unit;
    source = static_cast<const char*>(part.weight) + at * 1024 + me.lane * 16;
    scale_source = static_cast<const char*>(part.scales) + at * kScaleBytes + me.row * (kScaleBytes / 8);
    if (kNested && me.column > 0) {
      scale_source = reinterpret_cast<const char*>(part.nested);
      nested_index = min(tile * kTileRows + me.row + (me.column == 2 ? 8 : 0), part.out - 1) * units;
    }
  };
  const auto weight_slot =
      static_cast<unsigned>(__cvta_generic_to_shared(table)) +
      static_cast<unsigned>(me.warp * kDepth * 2048 + 128 + me.lane / 8 * kPitch + me.lane % 8 * 16);
  const auto scale_slot = static_cast<unsigned>(__cvta_generic_to_shared(scale_slots)) +
                          static_cast<unsigned>(me.warp * kDepth * kScaleSlot + me.row * 16);
  const auto copy = [&] {
    if (copy_step < end) {
      const unsigned to = weight_slot + static_cast<unsigned>(copy_stage * 2048);
      copy16(to, source, true);
      copy16(to + 1024, source + 512, true);
      source += 1024;
      const unsigned scale_to = scale_slot + static_cast<unsigned>(copy_stage * kScaleSlot);
      if constexpr (kNested) {
        const char* at = scale_source;
        if (me.column > 0) at += ((nested_index + copy_unit) >> p.linear.nested_shift) * 4;
        if (me.column < 3) copy4(scale_to + static_cast<unsigned>(me.column * 4), at);
        if (me.column == 0) scale_source += kScaleBytes;
      } else {
        if (me.column == 0) copy16(scale_to, scale_source, true);
        scale_source += kScaleBytes;
      }
      copy_stage ^= 1;
      ++copy_step;
      if (++copy_unit == units) {
        copy_unit = 0;
        if (copy_step < end) aim();
      }
    }
    end_copies();
  };

  let_successor_start();
  if (begin < end) aim();
  copy();
  copy();
  for (int byte = me.warp; byte < 256; byte += kWarps)
    *reinterpret_cast<__half2*>(table + byte * kPitch + me.lane * 4) =
        __floats2half2_rn(p.centroids[byte >> 4], p.centroids[byte & 15]);
  if (kNested && threadIdx.x < 256) map[threadIdx.x] = p.linear.map[threadIdx.x];
  Inputs<kSource> staged;
  staged.load_weights(p.inputs);
  wait_for_predecessor();
  staged.load(p.inputs);
  const float undo = staged.stage(p.inputs, inputs, scratch) * p.unit;
  __syncthreads();  // tables and inputs

  const unsigned lane4 = static_cast<unsigned>(me.lane) * 4;
  const auto pair = [&](unsigned bytes, auto byte) {
    const unsigned at = __byte_perm(bytes, lane4,
                                    0x7704 | (decltype(byte)::value << 4));  // byte << 8 | lane * 4
    return *reinterpret_cast<const unsigned*>(table + at);
  };
  const auto* my_inputs = reinterpret_cast<const uint4*>(inputs) + me.column;
  float total[2] = {};
  int stage = 0, segment = 0, unit = begin % units;
  float offset = 0.0f;
  const auto begin_tile = [&](int step) {
    int tile = first_tile + step / units;
    offset = part_of(p.linear, tile).offset;
  };
  const auto store_segment = [&] {
    float* to = sums + (me.warp * p.segments + segment) * kTileRows + me.row;
    if (me.column == 0) {
      to[0] = total[0];
      to[8] = total[1];
    }
    total[0] = total[1] = 0.0f;
    ++segment;
  };
  if (begin < end) begin_tile(begin);
  for (int step = begin; step < end; ++step) {
    await_copies<kDepth - 1>();
    const uint4 s = load_shared16(scale_slot + static_cast<unsigned>(stage * kScaleSlot));
    float scale[2][2];  // [row g or g + 8][half of the unit]
    if constexpr (kNested) {
      const float n0 = __uint_as_float(s.y), n1 = __uint_as_float(s.z);
      scale[0][0] = fmaf(map[s.x & 255], n0, offset);
      scale[0][1] = fmaf(map[s.x >> 8 & 255], n0, offset);
      scale[1][0] = fmaf(map[s.x >> 16 & 255], n1, offset);
      scale[1][1] = fmaf(map[s.x >> 24], n1, offset);
    } else {
      scale[0][0] = __uint_as_float(s.x);
      scale[0][1] = __uint_as_float(s.y);
      scale[1][0] = __uint_as_float(s.z);
      scale[1][1] = __uint_as_float(s.w);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 q = load_shared16(weight_slot + static_cast<unsigned>(stage * 2048 + half * 1024));
      uint4 b[2] = {};
      if (me.row == 0) {
        b[0] = my_inputs[unit * 16 + half * 8];
        b[1] = my_inputs[unit * 16 + half * 8 + 4];
      }
      const std::integral_constant<int, 0> b0;
      const std::integral_constant<int, 1> b1;
      const std::integral_constant<int, 2> b2;
      const std::integral_constant<int, 3> b3;
      float d[4] = {}, e[4] = {};
      mma16(d, pair(q.x, b0), pair(q.z, b0), pair(q.x, b1), pair(q.z, b1), b[0].x, b[0].y);
      mma16(e, pair(q.y, b0), pair(q.w, b0), pair(q.y, b1), pair(q.w, b1), b[1].x, b[1].y);
      mma16(d, pair(q.x, b2), pair(q.z, b2), pair(q.x, b3), pair(q.z, b3), b[0].z, b[0].w);
      mma16(e, pair(q.y, b2), pair(q.w, b2), pair(q.y, b3), pair(q.w, b3), b[1].z, b[1].w);
      total[0] = fmaf(scale[0][half], d[0] + e[0], total[0]);
      total[1] = fmaf(scale[1][half], d[2] + e[2], total[1]);
    }
    copy();
    stage ^= 1;
    if (++unit == units) {
      unit = 0;
      store_segment();
      if (step + 1 < end) begin_tile(step + 1);
    }
  }
  if (unit != 0 && begin < end) store_segment();
  await_copies<0>();
  __syncthreads();

  // Whoever computed a piece of a row tile left it in its own order of
  // segments; the warps' order is fixed.
  for (int i = threadIdx.x; i < (end_tile - first_tile) * kTileRows; i += kThreads) {
    const int local = i / kTileRows;
    float sum = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) {
      const int from = first_step_of(warp), to = first_step_of(warp + 1);
      if (max(from, local * units) < min(to, (local + 1) * units))
        sum += sums[(warp * p.segments + local - from / units) * kTileRows + i % kTileRows];
    }
    int tile = first_tile + local;
    const SmallPart& part = part_of(p.linear, tile);
    const int row = tile * kTileRows + i % kTileRows;
    if (row >= part.out) continue;
    float value = sum * undo + (part.bias ? part.bias[row] : 0.0f);
    value = p.linear.type == DType::kF16 ? rounded<__half>(value) : rounded<__nv_bfloat16>(value);
    if (p.linear.residual)
      p.linear.residual[row] += value;
    else if (p.linear.type == DType::kF16)
      static_cast<__half*>(part.y)[row] = __float2half_rn(value);
    else
      static_cast<__nv_bfloat16*>(part.y)[row] = __float2bfloat16_rn(value);
  }
}

}  // namespace

bool takes_one_token(const HalfInputs& inputs, int capability, int shared_bytes) {
  if (capability < 80 || shared_bytes < kMostShared) return false;
  const bool norm = inputs.source == Source::kNorm;
  return inputs.padded <= (norm ? kNormVectors : kPlainVectors) * kThreads * 4 &&
         inputs.x.dtype == (norm ? DType::kF32 : inputs.compute);
}

void launch_one_token4(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                       cudaStream_t stream) {
  Problem problem{linear, inputs, {}, linear.code == Code4::kFp4 ? 1.0f / 12.0f : 1.0f, 0};
  for (int code = 0; code < 16; ++code)  // FP4's are exact in half precision once multiplied by 12
    problem.centroids[code] =
        decoded(codebook(linear.code), code) * (linear.code == Code4::kFp4 ? 12.0f : 1.0f);
  int tiles = 0;
  for (int i = 0; i < linear.part_count; ++i) tiles += linear.parts[i].row_tiles;
  const int blocks = std::min(tiles, linear.multiprocessors);
  problem.segments = static_cast<int>(ceil_div(ceil_div(tiles, blocks), kWarps)) + 1;
  const std::int64_t bytes = kTableBytes + kWarps * kDepth * kScaleSlot + 1024 +
                             std::int64_t{linear.units} * kUnitColumns * 2 +
                             std::int64_t{kWarps} * problem.segments * kTileRows * 4;
  const auto kernel_for = [&](auto source) {
    constexpr Source kSource = decltype(source)::value;
    return nested ? one_token_kernel<true, kSource> : one_token_kernel<false, kSource>;
  };
  void (*kernel)(Problem) = kernel_for(std::integral_constant<Source, Source::kValues>{});
  if (inputs.source == Source::kNorm) kernel = kernel_for(std::integral_constant<Source, Source::kNorm>{});
  if (inputs.source == Source::kGated) kernel = kernel_for(std::integral_constant<Source, Source::kGated>{});
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared),
        "asking for shared memory");
  launch(kernel, {dim3(static_cast<unsigned>(blocks)), kThreads, bytes}, stream, "a product with one token",
         problem);
}

}  // namespace qtool::cuda
