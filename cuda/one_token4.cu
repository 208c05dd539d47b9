// One token, 4-bit tiles: the kernel that decoding a single sequence is made of.
//
//   - It makes its inputs itself (one_token_inputs.cuh): every thread block repeats that work,
//     which is shorter than another kernel in between.
//   - Two codes at a time become two half-precision centroids by one look-up: a byte's 256 values
//     in shared memory, 32 copies side by side so that no two lanes ever meet in a bank. One byte
//     permutation makes the address.
//   - The tensor cores multiply 8 columns at the price of one. A warp therefore takes a chunk of 8
//     blocks of 64 weights per row, and column n of the B operand holds the token's inputs of block
//     n and zeros elsewhere: the 8 columns of the sum are the sums of the 8 blocks. Each lane
//     applies 4 scales to a whole chunk.
//   - A lane copies into shared memory (cp.async) exactly the bytes that it will use itself, a
//     chunk ahead, so warps need no barrier while they stream.
//   - A multiprocessor runs one thread block of this kernel and has room for one more, that of the
//     next kernel, which fills its table and asks for its first weights meanwhile. There is no room
//     for a third, and some for the small kernels in between: so every multiprocessor gets one
//     block of each, and the same work.
//   - A thread block owns whole row tiles; its warps take equal, consecutive shares and meet once,
//     at the end, in a fixed order.
//   - Where two matrices are a gate and what it is multiplied by, a thread block owns the same row tiles of
//     both and stores act(gate) * up: whoever reads that next would compute it once per multiprocessor.
#include <algorithm>
#include <optional>
#include <type_traits>

#include "core/quant/codebook.h"
#include "cuda/mma16.cuh"
#include "cuda/one_token4.h"
#include "cuda/one_token_inputs.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

constexpr int kPitch = 256;  // bytes of a table entry: 128 of copies for the lanes, 128 for 64 inputs
constexpr int kTableBytes = 256 * kPitch;
constexpr int kMostColumns = kTableBytes / 4;
constexpr int kChunkBlocks = 8;  // of 64 columns: as many as the B operand has columns
constexpr int kChunkUnits = kChunkBlocks / 2;
constexpr int kMostTiles = 24;  // row tiles of a thread block
// Shared memory: table | zeros [128 bytes] | map | weights in flight [warp][block of a chunk][512 bytes] |
// sums [row tile][warp][16]. The whole is more than a third and less than half of a multiprocessor's.
constexpr int kZerosAt = kTableBytes;
constexpr int kMapAt = kZerosAt + 128;
constexpr int kFlightAt = kMapAt + 1024;
constexpr int kSumsAt = kFlightAt + kTokenWarps * kChunkBlocks * 512;
constexpr int kMostShared = kSumsAt + kMostTiles * kTokenWarps * kTileRows * 4;

struct Problem {
  SmallProblem linear;
  HalfInputs inputs;
  float centroids[16];
  float unit;  // what the centroids' scale is divided by
  int step;    // row tiles dealt out at a time: 1, or 2: one of a gate and the same one of what it multiplies
  int tiles;   // row tiles of a thread block; the first `more` have `step` more
  int more;
  Activation activation;
};

// Weights are read once, and a step reads more than the L2 cache holds: their lines leave it before those of
// activations and of the kernels' own instructions.
__device__ __forceinline__ std::uint64_t passing() {
  std::uint64_t policy = 0;
#if __CUDA_ARCH__ >= 800
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}
__device__ __forceinline__ void copy_if(unsigned to, const char* from, bool wanted, std::uint64_t policy) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{ .reg .pred p; setp.ne.s32 p, %2, 0;\n"
      "@p cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %3; }" ::"r"(to),
      "l"(from), "r"(static_cast<int>(wanted)), "l"(policy));
#endif
}

// Which row tile of which part is the `local`-th of this thread block.
struct Spot {
  int part, tile;
};
__device__ __forceinline__ int first_tile_of(const Problem& p) {
  const auto block = static_cast<int>(blockIdx.x);
  return block * p.tiles + min(block, p.more) * p.step;
}
template <bool kPairs>
__device__ __forceinline__ Spot spot_of(const Problem& p, int local) {
  const int first = first_tile_of(p);
  if (kPairs && p.step == 2) return {local % 2, (first + local) / 2};
  Spot spot{0, first + local};
#pragma unroll 1
  while (spot.part + 1 < p.linear.part_count && spot.tile >= p.linear.parts[spot.part].row_tiles)
    spot.tile -= p.linear.parts[spot.part++].row_tiles;
  return spot;
}

// Inputs lie where the table leaves gaps: columns 64 b .. 64 b + 63 behind entry b.
__device__ __forceinline__ uint2* input_at(char* table, int column) {
  return reinterpret_cast<uint2*>(table + column / 64 * kPitch + 128 + column % 64 * 2);
}

template <bool kHalf>
__device__ __forceinline__ uint2 scaled(uint2 raw, float power) {
  const float4 v = widened<kHalf>(raw);
  return narrowed<true>({v.x * power, v.y * power, v.z * power, v.w * power});
}

// Fills the gaps with the inputs in half precision, scaled by a power of two; returns what undoes it.
template <bool kHalf, Staging kStaging>
__device__ __forceinline__ float stage(const TokenInputs<kStaging>& inputs, const HalfInputs& in, char* table,
                                       float* scratch) {
  if constexpr (TokenInputs<kStaging>::kNorm) {
    const float power = power_for(inputs.weights.bound);
    inputs.template each<kHalf>(
        in, scratch, [&](int column, uint2 raw) { *input_at(table, column) = scaled<kHalf>(raw, power); });
    return 1.0f / power;
  } else {
    float top = 0.0f;
    inputs.template each<kHalf>(in, scratch, [&](int column, uint2 raw) {
      *input_at(table, column) = raw;
      top = fmaxf(top, largest(widened<kHalf>(raw)));
    });
    const float power = power_for(block_max<kTokenThreads>(top, scratch));
#pragma unroll 4
    for (int j = 0; token_column(j) < in.padded; ++j) {  // each thread reads what it wrote
      uint2* at = input_at(table, token_column(j));
      *at = scaled<kHalf>(*at, power);
    }
    return 1.0f / power;
  }
}

// Scales of rows g and g + 8 in the two blocks of a unit, as they lie in memory.
template <bool kNested>
struct RawScales;
template <>
struct RawScales<true> {
  unsigned codes;
  float nested[2];
};
template <>
struct RawScales<false> {
  float4 values;
};

template <bool kNested, bool kHalf, Staging kStaging>
__global__ void __maxnreg__(96) one_token_kernel(const __grid_constant__ Problem p) {
  constexpr int kUnitScaleBytes = kNested ? 32 : 128;
  constexpr bool kPairs = TokenInputs<kStaging>::kNorm;  // a gate follows a norm; other kernels stay short
  extern __shared__ __align__(1024) char table[];
  __shared__ float scratch[2 * kTokenWarps];
  const auto* map = reinterpret_cast<const float*>(table + kMapAt);
  auto* sums = reinterpret_cast<float*>(table + kSumsAt);
  const Lane me{static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4), static_cast<int>(threadIdx.x % 4)};
  let_successor_start();

  const auto block = static_cast<int>(blockIdx.x);
  const int tiles = p.tiles + (block < p.more ? p.step : 0);
  const int units = p.linear.units, all_units = tiles * units;
  const auto first_unit_of = [&](int warp) { return warp * all_units / kTokenWarps; };
  const int begin = first_unit_of(me.warp), end = first_unit_of(me.warp + 1);

  // What comes next from memory: a chunk of at most kChunkUnits units of one row tile.
  int next = begin;       // counted over the thread block's row tiles
  int next_tile = 0;      // of the thread block's
  int next_unit = 0;      // of the row
  int next_count = 0;     // 0 at the end
  float next_offset = 0;  // nested
  const char* weights = nullptr;
  const char* scales = nullptr;
  const float* nested = nullptr;
  int nested_index[2] = {};
  const auto aim = [&] {  // at next_unit of row tile next_tile
    const auto [index, tile] = spot_of<kPairs>(p, next_tile);
    const SmallPart& part = p.linear.parts[index];
    const std::int64_t at = static_cast<std::int64_t>(tile) * units + next_unit;
    weights = static_cast<const char*>(part.weight) + at * 1024 + me.lane * 16;
    scales = static_cast<const char*>(part.scales) + at * kUnitScaleBytes + me.row * (kUnitScaleBytes / 8);
    if (kNested) {
      next_offset = part.offset;
      nested = part.nested;
#pragma unroll
      for (int i = 0; i < 2; ++i)
        nested_index[i] = min(tile * kTileRows + me.row + i * 8, part.out - 1) * units;
    }
  };
  const auto count_next = [&] { next_count = min(kChunkUnits, min(units - next_unit, end - next)); };
  const auto advance = [&] {
    next += next_count;
    next_unit += next_count;
    weights += next_count * 1024;
    scales += next_count * kUnitScaleBytes;
    if (next_unit == units && next < end) {
      ++next_tile;
      next_unit = 0;
      aim();
    }
    count_next();
  };
  RawScales<kNested> raw{};
  const auto load_scales = [&] {
    const int mine = min(me.column, next_count - 1);  // beyond the chunk's end: multiplied by zeros
    if (next_count == 0) return;
    const char* at = scales + mine * kUnitScaleBytes;
    if constexpr (kNested) {
      raw.codes = __ldg(reinterpret_cast<const unsigned*>(at));
#pragma unroll
      for (int i = 0; i < 2; ++i)
        raw.nested[i] = __ldg(nested + ((nested_index[i] + next_unit + mine) >> p.linear.nested_shift));
    } else {
      raw.values = __ldg(reinterpret_cast<const float4*>(at));
    }
  };

  const unsigned flight = static_cast<unsigned>(__cvta_generic_to_shared(table)) +
                          static_cast<unsigned>(kFlightAt + me.warp * kChunkBlocks * 512 + me.lane * 16);
  const std::uint64_t policy = passing();
  const auto copy_unit = [&](int u) {  // u-th of the next chunk
    copy_if(flight + u * 1024, weights + u * 1024, u < next_count, policy);
    copy_if(flight + u * 1024 + 512, weights + u * 1024 + 512, u < next_count, policy);
    end_copies();
  };
  if (begin < end) {
    next_tile = begin / units;
    next_unit = begin - next_tile * units;
    aim();
  }
  count_next();
#pragma unroll
  for (int u = 0; u < kChunkUnits; ++u) copy_unit(u);
  load_scales();
  {
    const int byte = static_cast<int>(threadIdx.x);  // one entry a thread
    const __half2 pair = __floats2half2_rn(p.centroids[byte >> 4], p.centroids[byte & 15]);
    const unsigned bits = *reinterpret_cast<const unsigned*>(&pair);
#pragma unroll
    for (int i = 0; i < 8; ++i)  // neighbours begin at different banks
      *reinterpret_cast<uint4*>(table + byte * kPitch + (i + byte) % 8 * 16) = uint4{bits, bits, bits, bits};
    if (kNested) reinterpret_cast<float*>(table + kMapAt)[byte] = p.linear.map[byte];
    if (byte < 32) reinterpret_cast<float*>(table + kZerosAt)[byte] = 0.0f;
  }
  const int rows = tiles * kTileRows;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * kTokenWarps; i += kTokenThreads) sums[i] = 0.0f;
  TokenInputs<kStaging> inputs;
  inputs.prepare(p.inputs, scratch);
  wait_for_predecessor();
  const float undo = stage<kHalf>(inputs, p.inputs, table, scratch + kTokenWarps) * p.unit;
  // Of the first row that this thread will store: on its way while the product is computed.
  float before = 0.0f;
  const auto first_row = spot_of<kPairs>(p, 0).tile * kTileRows + static_cast<int>(threadIdx.x);
  if (p.linear.residual && first_row < p.linear.parts[0].out) before = p.linear.residual[first_row];
  __syncthreads();  // table and inputs

  const unsigned lane4 = static_cast<unsigned>(me.lane) * 4;
  const auto pair = [&](unsigned bytes, auto byte) {
    const unsigned at =
        __byte_perm(bytes, lane4, 0x7704 | (decltype(byte)::value << 4));  // byte << 8 | lane * 4
    return *reinterpret_cast<const unsigned*>(table + at);
  };
  float total[2] = {};
  while (next_count > 0) {
    const int count = next_count, unit = next_unit, tile = next_tile;
    float scale[2][2];  // [row g or g + 8][block of lane column t's unit]
    if constexpr (kNested) {
      scale[0][0] = fmaf(map[raw.codes & 255], raw.nested[0], next_offset);
      scale[0][1] = fmaf(map[raw.codes >> 8 & 255], raw.nested[0], next_offset);
      scale[1][0] = fmaf(map[raw.codes >> 16 & 255], raw.nested[1], next_offset);
      scale[1][1] = fmaf(map[raw.codes >> 24], raw.nested[1], next_offset);
    } else {
      scale[0][0] = raw.values.x;
      scale[0][1] = raw.values.y;
      scale[1][0] = raw.values.z;
      scale[1][1] = raw.values.w;
    }
    advance();
    load_scales();
    // Lane row n feeds column n of B: block n of the chunk, if there is one.
    const int zeros = kZerosAt + me.column * 16;
    const int mine = me.row < 2 * count ? (unit * 2 + me.row) * kPitch + 128 + me.column * 16 : zeros;
    float d[2][4] = {};
#pragma unroll
    for (int j = 0; j < kChunkBlocks; ++j) {
      if (j % 2 == 0) await_copies<kChunkUnits - 1>();
      const char* from = table + (me.row == j ? mine : zeros);
      const uint4 low = *reinterpret_cast<const uint4*>(from),
                  high = *reinterpret_cast<const uint4*>(from + 64);
      const uint4 w = load_shared16(flight + j * 512);
      const std::integral_constant<int, 0> b0;
      const std::integral_constant<int, 1> b1;
      const std::integral_constant<int, 2> b2;
      const std::integral_constant<int, 3> b3;
      mma16(d[0], pair(w.x, b0), pair(w.z, b0), pair(w.x, b1), pair(w.z, b1), low.x, low.y);
      mma16(d[1], pair(w.x, b2), pair(w.z, b2), pair(w.x, b3), pair(w.z, b3), low.z, low.w);
      mma16(d[0], pair(w.y, b0), pair(w.w, b0), pair(w.y, b1), pair(w.w, b1), high.x, high.y);
      mma16(d[1], pair(w.y, b2), pair(w.w, b2), pair(w.y, b3), pair(w.w, b3), high.z, high.w);
      if (j % 2 == 1) copy_unit(j / 2);
    }
    total[0] = fmaf(scale[0][0], d[0][0] + d[1][0], total[0]);
    total[0] = fmaf(scale[0][1], d[0][1] + d[1][1], total[0]);
    total[1] = fmaf(scale[1][0], d[0][2] + d[1][2], total[1]);
    total[1] = fmaf(scale[1][1], d[0][3] + d[1][3], total[1]);
    if (unit + count == units || next_count == 0) {  // the row tile ends here, or the warp's share
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 1);
        total[i] += __shfl_xor_sync(0xffffffffu, total[i], 2);
        if (me.column == 0) sums[(tile * kTokenWarps + me.warp) * kTileRows + me.row + i * 8] = total[i];
        total[i] = 0.0f;
      }
    }
  }
  await_copies<0>();
  __syncthreads();

  using T = std::conditional_t<kHalf, __half, __nv_bfloat16>;
  const auto result_of = [&](int local, const SmallPart& part, int row) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kTokenWarps; ++warp)  // in a fixed order
      sum += sums[(local * kTokenWarps + warp) * kTileRows + row % kTileRows];
    return from_float<T>(sum * undo + (part.bias ? part.bias[row] : 0.0f));
  };
#pragma unroll 1
  for (int i = threadIdx.x; i < rows; i += kTokenThreads) {
    const int local = i / kTileRows;
    const auto [index, tile] = spot_of<kPairs>(p, local);
    const SmallPart& part = p.linear.parts[index];
    const int row = tile * kTileRows + i % kTileRows;
    const bool paired = kPairs && p.step == 2;
    if (row >= part.out || (paired && index != 0)) continue;
    T result = result_of(local, part, row);
    if (paired) {
      const float up = to_float(result_of(local + 1, p.linear.parts[1], row));
      result = from_float<T>(gated(to_float(result), up, p.activation));
    }
    if (p.linear.residual)
      p.linear.residual[row] = (i < kTokenThreads ? before : p.linear.residual[row]) + to_float(result);
    else
      static_cast<T*>(part.y)[row] = result;
  }
}

void launch_kernel(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                   std::optional<Activation> gate, cudaStream_t stream) {
  Problem problem{linear,       inputs, {}, linear.code == Code4::kFp4 ? 1.0f / 12.0f : 1.0f,
                  gate ? 2 : 1, 0,      0,  gate.value_or(Activation::kSilu)};
  for (int code = 0; code < 16; ++code)  // FP4's are exact in half precision once multiplied by 12
    problem.centroids[code] =
        decoded(codebook(linear.code), code) * (linear.code == Code4::kFp4 ? 12.0f : 1.0f);
  std::int64_t tiles = 0;
  for (int i = 0; i < linear.part_count; ++i) tiles += linear.parts[i].row_tiles;
  const std::int64_t deals = tiles / problem.step,
                     blocks = std::max<std::int64_t>(std::min<std::int64_t>(deals, linear.multiprocessors),
                                                     ceil_div(deals, kMostTiles / problem.step));
  problem.tiles = static_cast<int>(deals / blocks) * problem.step;
  problem.more = static_cast<int>(deals % blocks);
  const std::int64_t bytes = kSumsAt + ceil_div(deals, blocks) * problem.step * kTokenWarps * kTileRows * 4;
  with_staging(inputs, [&](auto staging) {
    constexpr Staging kStaging = decltype(staging)::value;
    const bool half = inputs.compute == DType::kF16;
    auto* kernel =
        nested ? (half ? one_token_kernel<true, true, kStaging> : one_token_kernel<true, false, kStaging>)
               : (half ? one_token_kernel<false, true, kStaging> : one_token_kernel<false, false, kStaging>);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared),
          "asking for shared memory");
    launch(kernel, {dim3(static_cast<unsigned>(blocks)), kTokenThreads, bytes}, stream,
           "a product with one token", problem);
  });
}

}  // namespace

bool takes_one_token(const HalfInputs& inputs, int capability, int shared_bytes) {
  return capability >= 80 && shared_bytes >= kMostShared && takes_staging(inputs, kMostColumns);
}

void launch_one_token4(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                       cudaStream_t stream) {
  launch_kernel(linear, inputs, nested, std::nullopt, stream);
}

void launch_gated_one_token4(const SmallProblem& linear, const HalfInputs& inputs, bool nested,
                             Activation activation, cudaStream_t stream) {
  launch_kernel(linear, inputs, nested, activation, stream);
}

}  // namespace qtool::cuda
