// 2 to 8 tokens, 4-bit tiles, on devices with clusters: what decoding a few sequences takes of narrow
// matrices.
//
//   - Two thread blocks form a cluster. It owns up to 8 row tiles, and each of its thread blocks half of the
//     columns: so every multiprocessor has as many bytes to read, which row tiles alone would not give them.
//     (Larger clusters leave multiprocessors idle: on an H100 run 66 of 2 at once, but 30 of 4.)
//   - A cluster reads and converts inputs for itself (few_inputs.cuh), which is shorter than a kernel in
//     between. A unit (128 columns) of a token has a power of two of its own, which sums take back along with
//     the weights' scales: nobody has to know a token's largest value.
//   - Weights are the A operand of mma.sync, see small4.cu. A warp has two row tiles and a share of the
//     columns. It copies (cp.async) the weights that it will use itself, kStages units ahead, the first
//     before the predecessor in the stream has finished.
//   - Sums meet in the thread block, then in the cluster, always in the same order.
#include <algorithm>
#include <type_traits>

#include "core/quant/codebook.h"
#include "cuda/cluster.cuh"
#include "cuda/few4.h"
#include "cuda/few_inputs.cuh"
#include "cuda/mma16.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

constexpr int kWarps = kFewWarps, kThreads = kWarps * 32;
constexpr int kCluster = 2;
constexpr int kMostTiles = 8;                     // row tiles of a cluster
constexpr int kOwnTiles = kMostTiles / kCluster;  // whose results a thread block stores
constexpr int kPitch = 256;       // bytes of a table entry: 128 of copies for the lanes, and a gap of 128
constexpr int kScaleBytes = 128;  // of a row tile and unit: 16 for rows g and g + 8
constexpr int kTileBytes = 1024 + kScaleBytes, kStageBytes = 2 * kTileBytes;
// Shared memory: table | weights in flight [warp][stage] | inputs [unit]. In the table's gaps, a line of 32
// floats each: the map of nested scales, the warps' sums [warp][row tile of 2][4], those of the cluster
// [thread block][row tile of kOwnTiles][4], and the barrier that counts their arrival.
constexpr int kTableBytes = 256 * kPitch;
constexpr int kMapGap = 0, kSumsGap = 8, kClusterGap = kSumsGap + kWarps * 2 * 4,
              kBarrierGap = kClusterGap + kCluster * kOwnTiles * 4;
constexpr int kRingAt = kTableBytes;
constexpr int kMostShared = 227 * 1024;
constexpr int inputs_at(int stages) { return kRingAt + kWarps * stages * kStageBytes; }
constexpr int most_units(int stages) { return (kMostShared - inputs_at(stages)) / kFewUnitBytes; }
constexpr int kMostStages = 3, kLeastStages = 2;
static_assert(kBarrierGap < 256);

struct Problem {
  SmallProblem linear;
  HalfInputs inputs;
  float centroids[16];
  float unit;  // what the centroids' scale is divided by
  int tiles;   // row tiles of a cluster; the first `more` have one more
  int more;
};

__device__ __forceinline__ float* line_at(char* table, int gap) {
  return reinterpret_cast<float*>(table + gap * kPitch + 128);
}

// What a warp multiplies: 2^shift warps share a pair of row tiles, by columns.
struct Share {
  int shift, pair;  // no pair: nothing
  int begin, end;   // units of the thread block

  __device__ Share(int warp, int tiles, int units) {
    const int pairs = (tiles + 1) / 2;
    shift = pairs > 2 ? 2 : pairs == 2 ? 3 : 4;
    pair = warp >> shift;
    const int part = warp & ((1 << shift) - 1);
    begin = pair < pairs ? part * units >> shift : 0;
    end = pair < pairs ? (part + 1) * units >> shift : 0;
  }
};

// What a warp copies, kStages units ahead of what it multiplies.
template <bool kNested, int kStages>
struct Stream {
  static constexpr int kUnitScaleBytes = kNested ? 32 : 128;

  const Problem& p;
  const Lane& me;
  unsigned ring;
  int unit, end, stage = 0;  // units of a row
  const char* weights[2];
  const char* scales[2];
  int nested_index[2];
  float offsets[2];

  __device__ __forceinline__ Stream(const Problem& problem, const Lane& lane, const Share& share,
                                    int first_tile, int tiles, int first_unit, unsigned memory)
      : p(problem), me(lane), ring(memory), unit(first_unit + share.begin), end(first_unit + share.end) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // A missing one repeats the last: nobody stores what becomes of it.
      int tile = first_tile + min(share.pair * 2 + r, tiles - 1);
      const SmallPart& part = part_of(p.linear, tile);
      const std::int64_t at = static_cast<std::int64_t>(tile) * p.linear.units + unit;
      weights[r] = static_cast<const char*>(part.weight) + at * 1024 + me.lane * 16;
      scales[r] =
          static_cast<const char*>(part.scales) + at * kUnitScaleBytes + me.row * (kUnitScaleBytes / 8);
      if constexpr (kNested) {
        offsets[r] = part.offset;
        if (me.column == 0) continue;
        scales[r] = reinterpret_cast<const char*>(part.nested);
        nested_index[r] =
            min(tile * kTileRows + me.row + (me.column == 2 ? 8 : 0), part.out - 1) * p.linear.units;
      }
    }
  }

  // Of the scales of nested weights, lane column 0 copies the codes of rows g and g + 8, columns 1 and 2 the
  // nested absmax of either row, and 3 adds the offset.
  __device__ __forceinline__ void copy() {
    if (unit < end) {
      const unsigned to = ring + stage * kStageBytes;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const unsigned at = to + r * kTileBytes, scale_at = at + 1024 + me.row * 16;
        copy16(at + me.lane * 16, weights[r], true);
        copy16(at + me.lane * 16 + 512, weights[r] + 512, true);
        weights[r] += 1024;
        if constexpr (kNested) {
          if (me.column == 3) {
            asm volatile("st.shared.f32 [%0], %1;" ::"r"(scale_at + 12), "f"(offsets[r]) : "memory");
          } else {
            copy4(scale_at + me.column * 4,
                  me.column == 0 ? scales[r]
                                 : scales[r] + ((nested_index[r] + unit) >> p.linear.nested_shift) * 4);
          }
          if (me.column == 0) scales[r] += kUnitScaleBytes;
        } else {
          if (me.column == 0) copy16(scale_at, scales[r], true);
          scales[r] += kUnitScaleBytes;
        }
      }
      ++unit;
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    end_copies();
  }
};

// Adds the products of a unit's two row tiles: total[row tile][mma's order].
template <bool kNested>
__device__ __forceinline__ void multiply(char* table, unsigned at, unsigned inputs, const Lane& me,
                                         float (&total)[2][4]) {
  const unsigned lane4 = static_cast<unsigned>(me.lane) * 4;
  const auto pair = [&](unsigned bytes, int byte) {
    const unsigned from = __byte_perm(bytes, lane4, 0x7704 | (byte << 4));  // byte << 8 | lane * 4
    return *reinterpret_cast<const unsigned*>(table + from);
  };
  const auto map = [&](unsigned code) {
    return line_at(table, kMapGap + static_cast<int>(code >> 5))[code & 31];
  };
  float scale[2][2][2];  // [row tile][row g or g + 8][half of the unit]
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint4 s = load_shared16(at + r * kTileBytes + 1024 + me.row * 16);
    if constexpr (kNested) {
      const float n0 = __uint_as_float(s.y), n1 = __uint_as_float(s.z), offset = __uint_as_float(s.w);
      scale[r][0][0] = fmaf(map(s.x & 255), n0, offset);
      scale[r][0][1] = fmaf(map(s.x >> 8 & 255), n0, offset);
      scale[r][1][0] = fmaf(map(s.x >> 16 & 255), n1, offset);
      scale[r][1][1] = fmaf(map(s.x >> 24), n1, offset);
    } else {
      scale[r][0][0] = __uint_as_float(s.x);
      scale[r][0][1] = __uint_as_float(s.y);
      scale[r][1][0] = __uint_as_float(s.z);
      scale[r][1][1] = __uint_as_float(s.w);
    }
  }
  const float2 undo = few_undo(inputs, me);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = load_shared16(inputs + (half * 2) * 512 + me.lane * 16),
                high = load_shared16(inputs + (half * 2 + 1) * 512 + me.lane * 16);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint4 w = load_shared16(at + r * kTileBytes + half * 512 + me.lane * 16);
      float d[4] = {};
      mma16(d, pair(w.x, 0), pair(w.z, 0), pair(w.x, 1), pair(w.z, 1), low.x, low.y);
      mma16(d, pair(w.x, 2), pair(w.z, 2), pair(w.x, 3), pair(w.z, 3), low.z, low.w);
      mma16(d, pair(w.y, 0), pair(w.w, 0), pair(w.y, 1), pair(w.w, 1), high.x, high.y);
      mma16(d, pair(w.y, 2), pair(w.w, 2), pair(w.y, 3), pair(w.w, 3), high.z, high.w);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        total[r][i] = fmaf(scale[r][i / 2][half] * (i % 2 == 0 ? undo.x : undo.y), d[i], total[r][i]);
    }
  }
}

// Where a thread stores: of the row tiles that are this thread block's.
struct Place {
  int tile, token, row;
  __device__ explicit Place(int thread)
      : tile(thread / (16 * 8)), token(thread / kTileRows % 8), row(thread % kTileRows) {}
  // Among the 128 sums of a row tile.
  __device__ int sum() const { return (row / 8 * 2 + token % 2) * 32 + row % 8 * 4 + token / 2; }
};

template <bool kNested, bool kHalf, bool kWide, int kStages>
__global__ void __launch_bounds__(kThreads, 1) few_kernel(const __grid_constant__ Problem p) {
  using T = std::conditional_t<kHalf, __half, __nv_bfloat16>;
  extern __shared__ __align__(1024) char table[];
  const Lane me{static_cast<int>(threadIdx.x / 32), static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4), static_cast<int>(threadIdx.x % 4)};
  let_successor_start();
  const auto thread = static_cast<int>(threadIdx.x), rank = static_cast<int>(blockIdx.x) % kCluster,
             cluster = static_cast<int>(blockIdx.x) / kCluster;
  const int tiles = p.tiles + (cluster < p.more ? 1 : 0);
  const int first_tile = cluster * p.tiles + min(cluster, p.more);
  const int first_unit = rank * p.linear.units / kCluster,
            units = (rank + 1) * p.linear.units / kCluster - first_unit;
  const unsigned memory = static_cast<unsigned>(__cvta_generic_to_shared(table));
  const unsigned ring = memory + kRingAt + me.warp * kStages * kStageBytes;
  const unsigned barrier = memory + kBarrierGap * kPitch + 128;
  if (thread == 0) make_receiver(barrier);
  __syncwarp();
  arrive_at_cluster();
  const Share share(me.warp, tiles, units);
  Stream<kNested, kStages> stream(p, me, share, first_tile, tiles, first_unit, ring);
#pragma unroll 1
  for (int s = 0; s < kStages; ++s) stream.copy();
  {
    const int byte = thread / 2;  // two threads an entry
    const __half2 pair = __floats2half2_rn(p.centroids[byte >> 4], p.centroids[byte & 15]);
    const unsigned bits = *reinterpret_cast<const unsigned*>(&pair);
#pragma unroll
    for (int i = 0; i < 4; ++i)  // neighbours begin at different banks
      *reinterpret_cast<uint4*>(table + byte * kPitch + (i * 2 + thread) % 8 * 16) =
          uint4{bits, bits, bits, bits};
    if (kNested && thread < 256) line_at(table, kMapGap + thread / 32)[thread % 32] = p.linear.map[thread];
  }
  wait_for_predecessor();
  FewInputs<T, kWide, kStages == kMostStages ? 2 : 3>(p.inputs, me, first_unit, units,
                                                      memory + inputs_at(kStages))
      .stage();

  const Place place(thread);
  int tile = first_tile + rank * kOwnTiles + place.tile;
  const bool stores = rank * kOwnTiles + place.tile < tiles && place.token < p.linear.tokens;
  const SmallPart& part = part_of(p.linear, tile);
  const int row = tile * kTileRows + place.row;
  const bool real = stores && row < part.out;
  const std::int64_t at = static_cast<std::int64_t>(place.token) * part.out + row;
  float before = 0.0f;  // on its way while the product is computed
  if (real && p.linear.residual) before = p.linear.residual[at];
  __syncthreads();  // table and inputs

  float total[2][4] = {};
#pragma unroll 1
  for (int unit = share.begin; unit < share.end; ++unit) {
    await_copies<kStages - 1>();
    __syncwarp();
    multiply<kNested>(table, ring + stream.stage * kStageBytes,
                      memory + inputs_at(kStages) + unit * kFewUnitBytes, me, total);
    __syncwarp();
    stream.copy();
  }
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < 4; ++i) line_at(table, kSumsGap + (me.warp * 2 + r) * 4 + i)[me.lane] = total[r][i];
  await_cluster();
  __syncthreads();
  if (thread == 0)
    expect_bytes(barrier, max(0, min(tiles - rank * kOwnTiles, kOwnTiles)) * kCluster * 4 * 128);
#pragma unroll 1
  for (int line = me.warp; line < tiles * 4; line += kWarps) {  // a warp adds up a line of 32 sums
    const int of = line / 4;
    float sum = 0.0f;
#pragma unroll 1
    for (int warp = of / 2 << share.shift; warp < (of / 2 + 1) << share.shift; ++warp)
      sum += line_at(table, kSumsGap + (warp * 2 + of % 2) * 4 + line % 4)[me.lane];
    const int gap = kClusterGap + (rank * kOwnTiles + of % kOwnTiles) * 4 + line % 4;
    send(memory + gap * kPitch + 128 + me.lane * 4, barrier, of / kOwnTiles, sum);
  }
  await_bytes(barrier, 0);
  await_copies<0>();
  if (!real) return;
  float sum = 0.0f;
#pragma unroll
  for (int from = 0; from < kCluster; ++from)  // in a fixed order
    sum += line_at(table,
                   kClusterGap + (from * kOwnTiles + place.tile) * 4 + place.sum() / 32)[place.sum() % 32];
  const T result = from_float<T>(sum * p.unit + (part.bias ? part.bias[row] : 0.0f));
  if (p.linear.residual)
    p.linear.residual[at] = before + to_float(result);
  else
    static_cast<T*>(part.y)[at] = result;
}

// Clusters that run at once.
template <typename Kernel>
int clusters_at_once(Kernel* kernel, int multiprocessors) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared),
        "asking for shared memory");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(multiprocessors / kCluster * kCluster));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kMostShared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int count = 0;
  check(cudaOccupancyMaxActiveClusters(&count, kernel, &config), "asking how many clusters fit");
  return std::max(1, count);
}

template <bool kNested, bool kHalf, bool kWide, int kStages>
void launch_stages(Problem& problem, cudaStream_t stream) {
  auto* kernel = few_kernel<kNested, kHalf, kWide, kStages>;
  static const int at_once = clusters_at_once(kernel, problem.linear.multiprocessors);
  std::int64_t tiles = 0;
  for (int i = 0; i < problem.linear.part_count; ++i) tiles += problem.linear.parts[i].row_tiles;
  const std::int64_t clusters =
      std::max<std::int64_t>(std::min<std::int64_t>(tiles, at_once), ceil_div(tiles, kMostTiles));
  problem.tiles = static_cast<int>(tiles / clusters);
  problem.more = static_cast<int>(tiles % clusters);
  const std::int64_t bytes = inputs_at(kStages) + ceil_div(problem.linear.units, kCluster) * kFewUnitBytes;
  launch(kernel, {dim3(static_cast<unsigned>(clusters * kCluster)), kThreads, bytes, kCluster}, stream,
         "a product with few tokens", problem);
}

template <bool kNested, bool kHalf, bool kWide>
void launch_form(Problem& problem, cudaStream_t stream) {
  if (ceil_div(problem.linear.units, kCluster) <= most_units(kMostStages))
    launch_stages<kNested, kHalf, kWide, kMostStages>(problem, stream);
  else
    launch_stages<kNested, kHalf, kWide, kLeastStages>(problem, stream);
}

}  // namespace

bool takes_few4(const HalfInputs& inputs, int shared_bytes) {
  return shared_bytes >= kMostShared && inputs.rows <= kMostFew4Tokens && inputs.source == Source::kValues &&
         (inputs.x.dtype == DType::kF32 || inputs.x.dtype == inputs.compute) && inputs.cols % 8 == 0 &&
         ceil_div(inputs.padded / kUnitColumns, kCluster) <= most_units(kLeastStages);
}

void launch_few4(const SmallProblem& linear, const HalfInputs& inputs, bool nested, cudaStream_t stream) {
  const bool fp4 = linear.code == Code4::kFp4;  // exact in half precision once multiplied by 12
  Problem problem{linear, inputs, {}, fp4 ? 1.0f / 12.0f : 1.0f, 0, 0};
  for (int code = 0; code < 16; ++code)
    problem.centroids[code] = decoded(codebook(linear.code), code) * (fp4 ? 12.0f : 1.0f);
  const auto with_flag = [](bool flag, auto then) {
    flag ? then(std::true_type{}) : then(std::false_type{});
  };
  with_flag(nested, [&](auto is_nested) {
    with_flag(inputs.compute == DType::kF16, [&](auto is_half) {
      with_flag(inputs.x.dtype == DType::kF32, [&](auto is_wide) {
        launch_form<decltype(is_nested)::value, decltype(is_half)::value, decltype(is_wide)::value>(problem,
                                                                                                    stream);
      });
    });
  });
}

}  // namespace qtool::cuda
