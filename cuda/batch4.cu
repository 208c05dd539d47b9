// A batch of tokens, 4-bit tiles: every weight is read once for up to 128 of them.
//
//   - Two codes at a time become two half-precision centroids by one look-up: a byte's 256 values in
//     shared memory, 32 copies side by side so that no two lanes ever meet in a bank. One byte permutation
//     makes the address. Scales are applied to the float32 sums of 64 columns, so that centroids keep 11
//     bits and scales all of theirs.
//   - A warp owns one row tile, the A operand of mma.sync, and copies its weights (cp.async) to where it
//     alone reads them. 8 tokens make a B operand; all warps of the thread block share the inputs, which
//     pass through shared memory a stage at a time, up to 32 tokens in the gaps of the table.
//   - A matrix with too few rows to occupy all multiprocessors is also cut along its columns: the pieces
//     of a row form a cluster and add up their sums in a fixed order, each thread block a share of the
//     rows. Up to 32 tokens, and beyond, all are cut alike: a token's result is that of any batch of its
//     kind.
#include <algorithm>
#include <array>
#include <bit>

#include "core/quant/codebook.h"
#include "cuda/batch4.h"
#include "cuda/mma16.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

constexpr int kWarps = 12;
constexpr int kThreads = kWarps * 32;
constexpr int kLeastTiles = 4;         // row tiles per multiprocessor: with fewer, few warps would be busy
constexpr int kMostNarrowTokens = 64;  // of a matrix with fewer: dequantizing it is faster beyond
constexpr int kMostPieces = 8;         // thread blocks of a cluster
constexpr int kDepth = 3;              // units of 128 columns in flight per warp
constexpr int kScaleSlot = 128;        // bytes of a unit's scales: 16 per row g, for itself and row g + 8
constexpr int kPitch = 256;            // bytes of a table entry: the byte lands in bits 8-15
constexpr int kTableBytes = 256 * kPitch;
// Shared memory: table | map | weights [warp][kDepth][1024] | scales [warp][kDepth][128] | inputs.
constexpr int kMapAt = kTableBytes;
constexpr int kWeightsAt = kMapAt + 1024;
constexpr int kScalesAt = kWeightsAt + kWarps * kDepth * 1024;
constexpr int kInputsAt = kScalesAt + kWarps * kDepth * kScaleSlot;

struct Problem {
  SmallProblem linear;
  float centroids[16];
  float unit;  // what the centroids' scale is divided by
  int pieces;  // thread blocks that share a row tile
  int tiles;   // row tiles of a cluster; the first `more` have one more
  int more;
};

// How inputs pass through shared memory: in rows of 64 columns of a token, a stage of them at a time.
template <int kTokenTiles>
struct Stages {
  static constexpr bool kInGaps = kTokenTiles <= 4;  // of the table
  static constexpr int kRows = std::max(128, kTokenTiles * 16);
  static constexpr int kUnits = kRows / (kTokenTiles * 16);  // of a stage
  static constexpr int kCount = kInGaps ? 2 : kTokenTiles == 8 ? 4 : 3;
  static constexpr int kRowBytes = kInGaps ? kPitch : 128;
  static constexpr int kBegin = kInGaps ? 128 : kInputsAt;
  // Copies that may be under way when a unit, or the very first, is about to be used.
  static constexpr int kPending = std::min({kDepth - 1, (kCount - 1) * kUnits - 1, kCount - 2 + kUnits - 1});
  static constexpr int kFirstPending = std::min(kPending, kCount - 2);
  // Many tokens take all registers for their sums; few leave room for a second thread block, whose warps fill
  // the gaps of the first's.
  static constexpr int kBlocksPerMultiprocessor = kInGaps ? 2 : 1;
  static constexpr int kSumBytes = kWarps * kTileRows * kTokenTiles * 8 * 4;  // they take the table's place
  static constexpr int kBytes =
      std::max(kInGaps ? kInputsAt : kInputsAt + kCount * kRows * kRowBytes, kSumBytes);
  // B operands that are multiplied side by side: an instruction waits long for the one before on its sums.
  static constexpr int kSide = std::min(kTokenTiles, kTokenTiles == 8 ? 4 : 2);
};

__device__ __forceinline__ void synchronize_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}
// The value at `at` in the shared memory of a cluster's thread block `rank`.
__device__ __forceinline__ float load_of_cluster(const float* at, int rank) {
#if __CUDA_ARCH__ >= 900
  unsigned there;
  float value;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(there)
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(at))), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(there));
  return value;
#else
  return *at;
#endif
}

template <bool kNested, int kTokenTiles>
__global__ void __launch_bounds__(kThreads, Stages<kTokenTiles>::kBlocksPerMultiprocessor)
    batch4_kernel(const __grid_constant__ Problem p) {
  using Inputs = Stages<kTokenTiles>;
  extern __shared__ __align__(1024) char table[];
  const auto shared = static_cast<unsigned>(__cvta_generic_to_shared(table));
  const auto* map = reinterpret_cast<const float*>(table + kMapAt);
  const Lane me{static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4), static_cast<int>(threadIdx.x % 4)};
  const SmallProblem& linear = p.linear;
  let_successor_start();
  const int cluster = static_cast<int>(blockIdx.x) / p.pieces,
            piece = static_cast<int>(blockIdx.x) % p.pieces;
  const int first_tile = cluster * p.tiles + min(cluster, p.more);
  const int tiles = p.tiles + (cluster < p.more ? 1 : 0);
  const int units = linear.units;
  const int first_unit = piece * units / p.pieces;
  const int count_units = (piece + 1) * units / p.pieces - first_unit;
  const bool active = me.warp < tiles;

  // This warp's row tile.
  int tile = first_tile + (active ? me.warp : 0);
  const SmallPart& part = part_of(linear, tile);
  const std::int64_t at = static_cast<std::int64_t>(tile) * units + first_unit;
  const float offset = part.offset;
  const char* weights = static_cast<const char*>(part.weight) + at * 1024 + me.lane * 16;
  // Lane column 0 copies the codes of rows g and g + 8, columns 1 and 2 the nested absmax of either row.
  // Without nesting, column 0 copies the 16 bytes of scales.
  const char* scales = static_cast<const char*>(part.scales) + (at * 8 + me.row) * (kNested ? 4 : 16);
  const int nested_at =
      min(tile * kTileRows + me.row + (me.column == 2 ? 8 : 0), part.out - 1) * units + first_unit;
  const auto weight_slot =
      shared + static_cast<unsigned>(kWeightsAt + me.warp * kDepth * 1024 + me.lane * 16);
  const auto scale_slot =
      shared + static_cast<unsigned>(kScalesAt + me.warp * kDepth * kScaleSlot + me.row * 16);
  const auto copy_unit = [&](int unit, int slot) {
    if (!active || unit >= count_units) return;
    copy16(weight_slot + slot * 1024, weights + unit * 1024, true);
    copy16(weight_slot + slot * 1024 + 512, weights + unit * 1024 + 512, true);
    if constexpr (kNested) {
      const void* from = scales + unit * 32;
      if (me.column > 0) from = part.nested + ((nested_at + unit) >> linear.nested_shift);
      if (me.column < 3) copy4(scale_slot + slot * kScaleSlot + me.column * 4, from);
    } else {
      if (me.column == 0) copy16(scale_slot + slot * kScaleSlot, scales + unit * 128, true);
    }
  };
#pragma unroll
  for (int unit = 0; unit < kDepth; ++unit) {
    copy_unit(unit, unit);
    end_copies();
  }

  const char* x = static_cast<const char*>(linear.x) + first_unit * kUnitColumns * 2 + threadIdx.x % 8 * 16;
  const auto copy_stage = [&](int stage) {
    const int slot = stage % Inputs::kCount * Inputs::kRows * Inputs::kRowBytes;
    const int chunk = static_cast<int>(threadIdx.x) % 8;
#pragma unroll
    for (int first = 0; first < Inputs::kRows; first += kThreads / 8) {
      const int row = first + static_cast<int>(threadIdx.x) / 8;
      const int token = row % (kTokenTiles * 8), block = stage * Inputs::kUnits * 2 + row / (kTokenTiles * 8);
      if (row >= Inputs::kRows || block >= count_units * 2) continue;
      const bool real = token < linear.tokens;
      // Odd tokens have their halves exchanged: two rows of a B operand lie in different banks.
      const int to = Inputs::kBegin + slot + row * Inputs::kRowBytes + (chunk ^ (token & 1) * 4) * 16;
      copy16(shared + static_cast<unsigned>(to), x + (real ? token * linear.x_stride * 2 + block * 128 : 0),
             real);
    }
  };
  for (int byte = static_cast<int>(threadIdx.x); byte < 256; byte += kThreads) {
    const __half2 pair = __floats2half2_rn(p.centroids[byte >> 4], p.centroids[byte & 15]);
    const unsigned bits = *reinterpret_cast<const unsigned*>(&pair);
#pragma unroll
    for (int i = 0; i < 8; ++i)  // neighbours begin at different banks
      *reinterpret_cast<uint4*>(table + byte * kPitch + (i + byte) % 8 * 16) = uint4{bits, bits, bits, bits};
    if (kNested) reinterpret_cast<float*>(table + kMapAt)[byte] = linear.map[byte];
  }
  wait_for_predecessor();
#pragma unroll
  for (int stage = 0; stage < Inputs::kCount - 1; ++stage) {
    copy_stage(stage);
    end_copies();
  }
  await_copies<Inputs::kFirstPending>();

  const unsigned lane4 = static_cast<unsigned>(me.lane) * 4;
  const auto pair = [&](unsigned bytes, int byte) {
    const unsigned from = __byte_perm(bytes, lane4, 0x7704 | (byte << 4));  // byte << 8 | lane * 4
    return *reinterpret_cast<const unsigned*>(table + from);
  };
  const int low_at = Inputs::kBegin + me.row * Inputs::kRowBytes + (me.row & 1) * 64 + me.column * 16;
  const int high_at = low_at ^ 64;
  float total[kTokenTiles][4] = {};
  int slot = 0;
#pragma unroll 1
  for (int unit = 0; unit < count_units; ++unit) {
    await_copies<Inputs::kPending>();
    if (unit % Inputs::kUnits == 0) {
      __syncthreads();  // this stage has arrived, and nobody reads the one before any more
      copy_stage(unit / Inputs::kUnits + Inputs::kCount - 1);
    }
    const uint4 q[2] = {load_shared16(weight_slot + slot * 1024),
                        load_shared16(weight_slot + slot * 1024 + 512)};
    const uint4 s = load_shared16(scale_slot + slot * kScaleSlot);
    copy_unit(unit + kDepth, slot);
    end_copies();
    slot = slot + 1 == kDepth ? 0 : slot + 1;
    if (!active) continue;
    float scale[2][2];  // [block][row g or g + 8]
    if constexpr (kNested) {
      const float n0 = __uint_as_float(s.y), n1 = __uint_as_float(s.z);
      scale[0][0] = fmaf(map[s.x & 255], n0, offset);
      scale[1][0] = fmaf(map[s.x >> 8 & 255], n0, offset);
      scale[0][1] = fmaf(map[s.x >> 16 & 255], n1, offset);
      scale[1][1] = fmaf(map[s.x >> 24], n1, offset);
    } else {
      scale[0][0] = __uint_as_float(s.x);
      scale[1][0] = __uint_as_float(s.y);
      scale[0][1] = __uint_as_float(s.z);
      scale[1][1] = __uint_as_float(s.w);
    }
    const int rows_at = unit % (Inputs::kUnits * Inputs::kCount) * kTokenTiles * 16 * Inputs::kRowBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 w = q[half];
      const unsigned a[4][4] = {{pair(w.x, 0), pair(w.z, 0), pair(w.x, 1), pair(w.z, 1)},
                                {pair(w.x, 2), pair(w.z, 2), pair(w.x, 3), pair(w.z, 3)},
                                {pair(w.y, 0), pair(w.w, 0), pair(w.y, 1), pair(w.w, 1)},
                                {pair(w.y, 2), pair(w.w, 2), pair(w.y, 3), pair(w.w, 3)}};
      const char* low_rows = table + low_at + rows_at + half * kTokenTiles * 8 * Inputs::kRowBytes;
      const char* high_rows = table + high_at + rows_at + half * kTokenTiles * 8 * Inputs::kRowBytes;
#pragma unroll
      for (int first = 0; first < kTokenTiles; first += Inputs::kSide) {
        uint4 low[Inputs::kSide], high[Inputs::kSide];
        float d[Inputs::kSide][4] = {};
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n) {
          low[n] = *reinterpret_cast<const uint4*>(low_rows + (first + n) * 8 * Inputs::kRowBytes);
          high[n] = *reinterpret_cast<const uint4*>(high_rows + (first + n) * 8 * Inputs::kRowBytes);
        }
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n) mma16(d[n], a[0], low[n].x, low[n].y);
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n) mma16(d[n], a[1], low[n].z, low[n].w);
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n) mma16(d[n], a[2], high[n].x, high[n].y);
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n) mma16(d[n], a[3], high[n].z, high[n].w);
#pragma unroll
        for (int n = 0; n < Inputs::kSide; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            total[first + n][i] = fmaf(scale[half][i / 2], d[n][i], total[first + n][i]);
      }
    }
  }
  await_copies<0>();
  __syncthreads();  // nobody reads the table any more: sums take its place, [row tile][token][16]

  auto* sums = reinterpret_cast<float*>(table);
  if (active)
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = n * 8 + 2 * me.column + i % 2;
        if (token < linear.tokens)
          sums[(me.warp * linear.tokens + token) * kTileRows + me.row + i / 2 * 8] = total[n][i];
      }
  if (p.pieces > 1)
    synchronize_cluster();
  else
    __syncthreads();
  const int count = tiles * linear.tokens * kTileRows;
  for (int i = piece * kThreads + static_cast<int>(threadIdx.x); i < count; i += p.pieces * kThreads) {
    float sum = 0.0f;
    if (p.pieces > 1)
      for (int rank = 0; rank < p.pieces; ++rank) sum += load_of_cluster(sums + i, rank);
    else
      sum = sums[i];
    const int token = i / kTileRows % linear.tokens;
    int of = first_tile + i / kTileRows / linear.tokens;
    const SmallPart& target_part = part_of(linear, of);
    const int row = of * kTileRows + i % kTileRows;
    if (row >= target_part.out) continue;
    float value = sum * (p.unit * linear.x_scales[token]) + (target_part.bias ? target_part.bias[row] : 0.0f);
    value = linear.type == DType::kF16 ? rounded<__half>(value) : rounded<__nv_bfloat16>(value);
    const std::int64_t to = static_cast<std::int64_t>(token) * target_part.out + row;
    if (linear.residual)
      linear.residual[to] += value;
    else if (linear.type == DType::kF16)
      static_cast<__half*>(target_part.y)[to] = __float2half_rn(value);
    else
      static_cast<__nv_bfloat16*>(target_part.y)[to] = __float2bfloat16_rn(value);
  }
  if (p.pieces > 1) synchronize_cluster();  // whoever reads here has done so
}

// Clusters of `pieces` thread blocks that run at once.
template <int kTokenTiles>
int clusters_at_once(int pieces, int multiprocessors) {
  const int blocks = multiprocessors * Stages<kTokenTiles>::kBlocksPerMultiprocessor;
  if (pieces == 1) return blocks;
  auto* kernel = batch4_kernel<true, kTokenTiles>;
  constexpr int kBytes = Stages<kTokenTiles>::kBytes;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "asking for shared memory");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(pieces), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks / pieces * pieces));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int count = 0;
  check(cudaOccupancyMaxActiveClusters(&count, kernel, &config), "asking how many clusters fit");
  return std::max(1, count);
}

// How a matrix is cut: the pieces per row tile that cost least, the most of equals, which re-read least
// inputs.
struct Cut {
  int pieces;
  std::int64_t clusters;
};
template <int kTokenTiles>
Cut cut_for(std::int64_t tiles, int units, int multiprocessors, bool clusters) {
  constexpr std::int64_t kWaveCost = 32;  // of starting, in row tiles times units
  constexpr int kMostPowers = std::bit_width(static_cast<unsigned>(kMostPieces));
  static const auto at_once = [&] {
    std::array<int, kMostPowers> counts{};
    for (int power = 0; power < (clusters ? kMostPowers : 1); ++power)
      counts[static_cast<std::size_t>(power)] = clusters_at_once<kTokenTiles>(1 << power, multiprocessors);
    return counts;
  }();
  Cut best{1, 1};
  std::int64_t least = 0;
  for (int power = 0; power < kMostPowers && 1 << power <= units; ++power) {
    const std::int64_t fit = at_once[static_cast<std::size_t>(power)];
    if (fit == 0) break;
    const std::int64_t waves = ceil_div(tiles, fit * kWarps);
    const std::int64_t count = std::min(tiles, fit * waves);
    const std::int64_t cost = waves * (kWaveCost + ceil_div(tiles, count) * ceil_div(units, 1 << power));
    if (power > 0 && cost > least) continue;
    best = {1 << power, count};
    least = cost;
  }
  return best;
}

template <bool kNested, int kTokenTiles>
void launch_tokens(Problem problem, cudaStream_t stream) {
  const SmallProblem& linear = problem.linear;
  std::int64_t tiles = 0;
  for (int i = 0; i < linear.part_count; ++i) tiles += linear.parts[i].row_tiles;
  // Up to 32 tokens are cut alike, and so are more: a token's result is that of any batch of its kind.
  const Cut cut =
      cut_for < kTokenTiles <= 4 ? 4 : 16 > (tiles, linear.units, linear.multiprocessors, linear.clusters);
  problem.pieces = cut.pieces;
  problem.tiles = static_cast<int>(tiles / cut.clusters);
  problem.more = static_cast<int>(tiles % cut.clusters);
  auto* kernel = batch4_kernel<kNested, kTokenTiles>;
  constexpr int kBytes = Stages<kTokenTiles>::kBytes;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "asking for shared memory");
  launch(kernel,
         {dim3(static_cast<unsigned>(cut.clusters * cut.pieces)), kThreads, kBytes,
          static_cast<unsigned>(cut.pieces)},
         stream, "a product with a batch of tokens", problem);
}

template <bool kNested>
void launch_form(const Problem& problem, cudaStream_t stream) {
  const int tokens = problem.linear.tokens;
  if (tokens <= 8) return launch_tokens<kNested, 1>(problem, stream);
  if (tokens <= 16) return launch_tokens<kNested, 2>(problem, stream);
  if (tokens <= 32) return launch_tokens<kNested, 4>(problem, stream);
  if (tokens <= 64) return launch_tokens<kNested, 8>(problem, stream);
  launch_tokens<kNested, 16>(problem, stream);
}

}  // namespace

int most_batch4_tokens(int capability, int shared_bytes) {
  return capability >= 80 && shared_bytes >= Stages<16>::kBytes ? 128 : 0;
}

bool pays_batch4(const SmallProblem& problem, std::int64_t tokens) {
  std::int64_t tiles = 0;
  for (int i = 0; i < problem.part_count; ++i) tiles += problem.parts[i].row_tiles;
  if (tiles >= kLeastTiles * problem.multiprocessors) return tokens > 1;
  return tokens > kSmallTokens && tokens <= kMostNarrowTokens;
}

void launch_batch4(const SmallProblem& linear, bool nested, cudaStream_t stream) {
  Problem problem{linear, {}, linear.code == Code4::kFp4 ? 1.0f / 12.0f : 1.0f, 1, 0, 0};
  for (int code = 0; code < 16; ++code)  // FP4's are exact in half precision once multiplied by 12
    problem.centroids[code] =
        decoded(codebook(linear.code), code) * (linear.code == Code4::kFp4 ? 12.0f : 1.0f);
  nested ? launch_form<true>(problem, stream) : launch_form<false>(problem, stream);
}

}  // namespace qtool::cuda
