// Many tokens, LLM.int8: codes of inputs times codes of weights in the integer tensor cores, and the way from
// int32 sums to values of the layer's type in registers.
//
//   - A thread block owns 128 tokens x kRows rows of the weight. One thread asks the copy engine for 128
//     columns of both at a time, some stages ahead; two warpgroups multiply, 64 tokens each.
//   - Two thread blocks form a cluster. Beside each other along the tokens they share the weights, along the
//     rows the inputs: each fetches half of what is shared, for both. At 1500 TOP/s a thread block alone
//     would draw more from the L2 cache than that delivers.
//   - Thread blocks stay and take tile after tile, tokens first, so that all inputs wait in the L2 cache
//     while the weights pass by once. Copies run ahead into the next tile while sums become values.
//   - The steps after the sum are those of int8_linear.cuh. Outlier columns are 0 in the integer product;
//     their part is summed in float32, column by column, from weights gathered a few columns at a time.
//
// On an H100, 4096 tokens, 12288x4096: 1540 TOP/s with all of that; cuBLASLt 1590 without.
#include <algorithm>
#include <array>

#include "cuda/device.h"
#include "cuda/launch.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wide8.h"
#include "cuda/wide8_finish.cuh"

namespace qtool::cuda {
namespace {

using namespace wide8;

constexpr int kTokens = 128;   // of a thread block
constexpr int kColumns = 128;  // of a stage
constexpr int kCluster = 2;
constexpr int kThreads = 3 * kWarpgroup;  // one that copies, two that multiply
constexpr int kTokenGroup = 16;           // clusters' tokens whose inputs stay in the L2 cache
constexpr int kCopyRegisters = 40, kProductRegisters = 232;

template <int kRows, bool kShareWeights>
struct Shape {
  static constexpr int kInputBytes = kTokens * kColumns, kWeightBytes = kRows * kColumns;
  static constexpr int kStageBytes = kInputBytes + kWeightBytes;
  static constexpr int kFinish = 2 * kFinishBytes<kRows>;
  static constexpr int kAlignment = 1024;  // the swizzle's
  static constexpr int kMostBytes = 226 * 1024;
  static constexpr int kStages = (kMostBytes - kFinish - kAlignment) / kStageBytes;
  static constexpr int kBytes = kStages * kStageBytes + kFinish + kAlignment;
  static constexpr int kClusterTokens = kShareWeights ? kCluster * kTokens : kTokens;
  static constexpr int kClusterRows = kShareWeights ? kRows : kCluster * kRows;
  // What one copy fetches.
  static constexpr int kInputBox = kShareWeights ? kTokens : kTokens / kCluster;
  static constexpr int kWeightBox = kShareWeights ? kRows / kCluster : kRows;
};

#if QTOOL_HAS_WGMMA
// A cluster's tile: kTokenGroup tiles of tokens go past all rows, then the next.
struct Place {
  const Part* part;
  int first_row, first_token;
};
template <class S>
__device__ __forceinline__ Place place_of(const Problem& p, int tile) {
  const int group = tile / (kTokenGroup * p.row_tiles), first = group * kTokenGroup;
  const int tokens = min(kTokenGroup, p.token_tiles - first);
  const int in_group = tile - first * p.row_tiles;
  int row = in_group / tokens, i = 0;
#pragma unroll 1
  while (i + 1 < p.part_count && row >= p.parts[i].tiles) row -= p.parts[i++].tiles;
  return {&p.parts[i], row * S::kClusterRows, (first + in_group % tokens) * S::kClusterTokens};
}

#endif

template <typename T, int kRows, bool kShareWeights>
__global__ void __launch_bounds__(kThreads, 1) wide8_kernel(const __grid_constant__ Problem p) {
#if QTOOL_HAS_WGMMA
  using S = Shape<kRows, kShareWeights>;
  extern __shared__ char memory[];
  __shared__ std::uint64_t barriers[2 * S::kStages];  // of stages: filled, emptied
  const unsigned base = (shared_address(memory) + S::kAlignment - 1) / S::kAlignment * S::kAlignment;
  const auto filled = [&](int stage) { return shared_address(barriers + stage); };
  const auto emptied = [&](int stage) { return shared_address(barriers + S::kStages + stage); };
  const auto inputs_at = [&](int stage) { return base + static_cast<unsigned>(stage * S::kStageBytes); };
  const auto weights_at = [&](int stage) { return inputs_at(stage) + S::kInputBytes; };
  const int rank = static_cast<int>(rank_in_cluster());
  const int tiles = p.token_tiles * p.row_tiles;
  const int clusters = static_cast<int>(gridDim.x) / kCluster;
  const int first_tile = static_cast<int>(blockIdx.x) / kCluster;
  const int row_offset = kShareWeights ? 0 : rank * kRows, token_offset = kShareWeights ? rank * kTokens : 0;

  let_successor_start();
  if (threadIdx.x == 0) {
    prefetch_map(&p.x);
    for (int i = 0; i < p.part_count; ++i) prefetch_map(&p.parts[i].weight);
    for (int stage = 0; stage < S::kStages; ++stage) {
      make_barrier(filled(stage), 1);
      make_barrier(emptied(stage), 2 * kCluster);
    }
    publish_barriers();
  }
  __syncwarp();
  join_cluster();
  wait_for_predecessor();

  int stage = 0;
  unsigned parity = 0;
  const auto next_stage = [&] {
    if (++stage == S::kStages) {
      stage = 0;
      parity ^= 1;
    }
  };
  if (threadIdx.x < kWarpgroup) {
    give_registers<kCopyRegisters>();
    if (threadIdx.x == 0) {
      constexpr unsigned short kAll = (1 << kCluster) - 1;
      for (int tile = first_tile; tile < tiles; tile += clusters) {
        const Place place = place_of<S>(p, tile);
        const CUtensorMap* weight = &place.part->weight;
        // Boxes without a token are copies of others: those come faster than the zeros from outside a matrix.
        const int token = place.first_token + (kShareWeights ? token_offset : rank * S::kInputBox);
        const int from_token = token < p.tokens ? token : place.first_token;
        for (int step = 0; step < p.steps; ++step) {
          await_phase(emptied(stage), parity ^ 1);
          const unsigned barrier = filled(stage);
          arrive_expecting(barrier, S::kStageBytes);
          const int column = step * kColumns;
          if constexpr (kShareWeights) {
            const int mine = rank * S::kWeightBox;
            copy_box(inputs_at(stage), &p.x, column, from_token, barrier);
            copy_box_to(kAll, weights_at(stage) + mine * kColumns, weight, column, place.first_row + mine,
                        barrier);
          } else {
            const int mine = rank * S::kInputBox;
            copy_box(weights_at(stage), weight, column, place.first_row + row_offset, barrier);
            copy_box_to(kAll, inputs_at(stage) + mine * kColumns, &p.x, column, from_token, barrier);
          }
          next_stage();
        }
      }
    }
    __syncwarp();
  } else {
    take_registers<kProductRegisters>();
    const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
    const bool speaks =
        threadIdx.x % kWarpgroup < kCluster;  // one thread for each thread block of the cluster
    const unsigned listener = threadIdx.x % kWarpgroup;
    auto* memory_of_mine =
        reinterpret_cast<float*>(memory + (base - shared_address(memory)) + S::kStages * S::kStageBytes +
                                 warpgroup * kFinishBytes<kRows>);
    int total[kRows / 2];
    for (int tile = first_tile; tile < tiles; tile += clusters) {
      const Place place = place_of<S>(p, tile);
      const int row = place.first_row + row_offset, token = place.first_token + token_offset + warpgroup * 64;
      const TileScales scales = scales_of<kRows>(p, *place.part, row, token);
      if (p.residual) prefetch_residual<kRows>(p, row, token);
      int last_stage = 0;
      for (int step = 0; step < p.steps; ++step) {
        await_phase(filled(stage), parity);
        const std::uint64_t a =
            operand_at(inputs_at(stage) + static_cast<unsigned>(warpgroup * 64 * kColumns));
        const std::uint64_t b = operand_at(weights_at(stage));
        begin_products();
#pragma unroll
        for (int k = 0; k < kColumns / 32; ++k)
          multiply8<kRows>(total, a + k * 2, b + k * 2, step > 0 || k > 0);
        end_products();
        if (step > 0) {
          await_groups<1>();
          if (speaks) arrive_at(emptied(last_stage), listener);
        }
        last_stage = stage;
        next_stage();
      }
      await_sums(total);
      if (speaks) arrive_at(emptied(last_stage), listener);
      synchronize(1 + warpgroup, kWarpgroup);  // the last tile's scales have been read
      share_scales<kRows>(scales, memory_of_mine);
      synchronize(1 + warpgroup, kWarpgroup);
      if (scales.outliers == 0 && !place.part->bias)
        finish_tile<T, kRows, true>(p, *place.part, row, token, warpgroup, scales, memory_of_mine, total);
      else
        finish_tile<T, kRows, false>(p, *place.part, row, token, warpgroup, scales, memory_of_mine, total);
    }
  }
  join_cluster();  // nobody leaves while another may still write into its memory
#endif
}

// Codes [rows, columns] in boxes of box_rows x kColumns.
CUtensorMap map_of(const void* codes, std::int64_t rows, std::int64_t columns, int box_rows) {
  return tensor_map(codes, 1, std::array{columns, rows}, std::array{kColumns, box_rows});
}

template <typename T, int kRows, bool kShareWeights>
void launch_shape(const SmallProblem& linear, cudaStream_t stream) {
  using S = Shape<kRows, kShareWeights>;
  Problem p;
  p.x = map_of(linear.x, ceil_div(linear.tokens, kWide8Tokens) * kWide8Tokens, linear.x_stride, S::kInputBox);
  p.part_count = linear.part_count;
  p.row_tiles = 0;
  for (int i = 0; i < linear.part_count; ++i) {
    const SmallPart& from = linear.parts[i];
    Part& part = p.parts[i];
    part.weight = map_of(from.weight, from.out, linear.columns, S::kWeightBox);
    part.codes = static_cast<const std::int8_t*>(from.weight);
    part.row_absmax = static_cast<const float*>(from.scales);
    part.bias = from.bias;
    part.y = from.y;
    part.out = from.out;
    part.tiles = static_cast<int>(ceil_div(from.out, S::kClusterRows));
    p.row_tiles += part.tiles;
  }
  p.tokens = linear.tokens;
  p.columns = linear.columns;
  p.steps = static_cast<int>(ceil_div(linear.columns, kColumns));
  p.token_tiles = static_cast<int>(ceil_div(linear.tokens, S::kClusterTokens));
  p.absmax = linear.x_scales;
  p.residual = linear.residual;
  p.outliers = {linear.outlier_count, linear.outlier_columns, linear.outlier_x, linear.columns};
  auto* kernel = wide8_kernel<T, kRows, kShareWeights>;
  static const bool allowed = [&] {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes),
          "asking for shared memory");
    return true;
  }();
  static_cast<void>(allowed);
  const int clusters = std::min(p.row_tiles * p.token_tiles, linear.multiprocessors / kCluster);
  launch(kernel, {dim3(static_cast<unsigned>(clusters * kCluster)), kThreads, S::kBytes, kCluster}, stream,
         "an LLM.int8 product", p);
}

// The kernel's shapes, and how long each takes for a tile, measured on an H100 and in the widest's time.
struct Choice {
  int cluster_tokens, cluster_rows;
  double tile_cost;
  void (*launch[2])(const SmallProblem&, cudaStream_t);  // of half, of bfloat16
};
template <int kRows, bool kShareWeights>
constexpr Choice choice(double tile_cost) {
  using S = Shape<kRows, kShareWeights>;
  return {S::kClusterTokens,
          S::kClusterRows,
          tile_cost,
          {launch_shape<__half, kRows, kShareWeights>, launch_shape<__nv_bfloat16, kRows, kShareWeights>}};
}
constexpr Choice kChoices[] = {choice<256, true>(1.0), choice<192, true>(0.79), choice<128, true>(0.61),
                               choice<64, false>(0.44)};

}  // namespace

bool takes_wide8(const CudaLinear& linear, int capability) {
  return has_hopper_code(capability) && has_tensor_maps() && linear.form == WeightForm::kInt8 &&
         linear.compute != DType::kF32 && linear.in % 16 == 0 && linear.out % 8 == 0;
}

// The shape that is done first, by the number of tiles that one cluster gets.
void launch_wide8(const SmallProblem& problem, cudaStream_t stream) {
  const std::int64_t clusters = problem.multiprocessors / kCluster;
  const Choice* best = nullptr;
  double least = 0.0;
  for (const Choice& choice : kChoices) {
    std::int64_t rows = 0;
    for (int i = 0; i < problem.part_count; ++i) rows += ceil_div(problem.parts[i].out, choice.cluster_rows);
    const std::int64_t tiles = rows * ceil_div(problem.tokens, choice.cluster_tokens);
    const double cost = static_cast<double>(ceil_div(tiles, clusters)) * choice.tile_cost;
    if (best && cost >= least) continue;
    best = &choice;
    least = cost;
  }
  best->launch[problem.type == DType::kF16 ? 0 : 1](problem, stream);
}

}  // namespace qtool::cuda
