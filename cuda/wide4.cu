// Many tokens, 4-bit tiles, on Hopper: every weight is decoded once for up to 128 tokens.
//
//   - The weights are the A operand of wgmma, from registers: a tile's lane order is that operand's. Two of
//     the codes at a time become half-precision centroids by one look-up, see batch4.cu. The inputs are the B
//     operand and lie in memory as the tensor cores read them (HalfInputs::wide_tokens): a stage of them is
//     two copies.
//   - One warpgroup keeps a ring of stages full (wide4_copy.cuh): 128 columns of inputs, and of 64 rows of
//     weights for each of the others. Those (wide4_multiply.cuh) decode what comes next and scale what came
//     before while their products run. Scales are applied to the float32 sums of 64 columns, so that
//     centroids keep 11 bits and scales all of theirs.
//   - The steps of all products (row tiles, tokens, columns) are one line, of which every thread block has an
//     equal piece. Where pieces end amid the columns of a product, who has its first columns adds up the
//     others' sums, in the order of the columns (wide4_finish.cuh). They begin with what others wait for, and
//     wait at their end. All thread blocks must run at the same time therefore: there are no more of them
//     than multiprocessors.
//   - Products of few rows are cut into equal pieces instead. Their blocks end at the same time, and each
//     adds up and stores a share of the tokens.
#include <algorithm>

#include "core/quant/codebook.h"
#include "cuda/launch.cuh"
#include "cuda/wide4.h"
#include "cuda/wide4_copy.cuh"
#include "cuda/wide4_multiply.cuh"

namespace qtool::cuda {
namespace {

using namespace wide4;

constexpr int kManyTiles = 4;  // of a multiprocessor
constexpr int kMostGroups = 4;
constexpr std::int64_t kMostSums = 2 * kGroupTiles * kTileRows * kMostTokens;  // of a thread block

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) wide4_kernel(const __grid_constant__ Problem p) {
  extern __shared__ __align__(1024) char table[];
  const unsigned shared = shared_address(table);
  const unsigned full = shared + kBarriersAt, empty = full + S::kStages * 8;
  let_successor_start();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < S::kStages; ++stage) {
      make_barrier(full + stage * 8, kGroupThreads + 1);
      make_barrier(empty + stage * 8, S::kGroups * 4);
    }
    publish_barriers();
  }
  __syncthreads();
  const Line line{p.steps, p.linear.units, p.token_tiles, p.pieces};
  const std::int64_t begin = line.begin(blockIdx.x), end = line.begin(blockIdx.x + 1);
  if (threadIdx.x >= S::kMultipliers) {
    give_registers<S::kCopyRegisters>();
    fill_ring<S>(p, line, begin, end, shared, full, empty);
  } else {
    take_registers<S::kMultiplyRegisters>();
    multiply_all<S>(p, line, begin, end, table, full, empty);
  }
}

std::int64_t row_tiles(const SmallProblem& problem) {
  std::int64_t tiles = 0;
  for (int i = 0; i < problem.part_count; ++i) tiles += problem.parts[i].row_tiles;
  return tiles;
}

// Tokens of the operand that takes `tokens` of them.
constexpr int operand_tokens(std::int64_t tokens) {
  for (int size = 8; size < kMostTokens; size *= 2)
    if (tokens <= size) return size;
  return kMostTokens;
}

// Of a product with few rows, as many equal pieces as thread blocks allow: all end at once, and each stores a
// share. On a line one block would do that for all; but a piece may not be longer by more than this saves.
int pieces_of(const Problem& problem, std::int64_t blocks) {
  constexpr std::int64_t kSaves = 5;  // steps
  const std::int64_t units = problem.linear.units, products = problem.steps / units,
                     pieces = std::min({blocks / products, units, std::int64_t{kMostPieces}});
  if (pieces < kLeastPieces || ceil_div(units, pieces) > problem.steps / blocks + kSaves) return 0;
  return static_cast<int>(pieces);
}

template <class S>
void launch_shape(Problem problem, cudaStream_t stream) {
  auto* kernel = wide4_kernel<S>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes),
        "asking for shared memory");
  problem.token_tiles = static_cast<int>(ceil_div(problem.linear.tokens, S::kTokens));
  problem.steps = ceil_div(problem.tiles, S::kRowTiles) * problem.token_tiles * problem.linear.units;
  auto blocks = std::min<std::int64_t>(problem.linear.multiprocessors, problem.steps);
  problem.pieces = S::kShares ? pieces_of(problem, blocks) : 0;
  if (problem.pieces > 0) blocks = problem.pieces * (problem.steps / problem.linear.units);
  launch(kernel, {dim3(static_cast<unsigned>(blocks)), S::kThreads, S::kBytes}, stream,
         "a product with many tokens", problem);
}

// Few tokens leave registers for more warps, which hide each other's latencies; but pieces of a narrow matrix
// would be too short. Isolated tokens have the pieces that many have.
template <bool kNested>
void launch_form(const Problem& problem, bool isolated, cudaStream_t stream) {
  const int tokens = operand_tokens(problem.linear.tokens);
  if (tokens == 128) return launch_shape<Shape<kNested, 128, 2>>(problem, stream);
  if (tokens == 64) return launch_shape<Shape<kNested, 64, 2>>(problem, stream);
  if (isolated || problem.tiles < kManyTiles * problem.linear.multiprocessors) {
    if (tokens == 8) return launch_shape<Shape<kNested, 8, 2>>(problem, stream);
    if (tokens == 16) return launch_shape<Shape<kNested, 16, 2>>(problem, stream);
    return launch_shape<Shape<kNested, 32, 2>>(problem, stream);
  }
  if (tokens == 8) return launch_shape<Shape<kNested, 8, 4>>(problem, stream);
  if (tokens == 16) return launch_shape<Shape<kNested, 16, 4>>(problem, stream);
  launch_shape<Shape<kNested, 32, 4>>(problem, stream);
}

}  // namespace

std::int64_t padded_wide4_tokens(std::int64_t tokens) {
  const std::int64_t whole = tokens / kMostTokens * kMostTokens;
  return whole + (tokens > whole ? operand_tokens(tokens - whole) : 0);
}

Wide4Workspace::Wide4Workspace(int multiprocessors)
    : sums_(Place::kDevice, std::int64_t{multiprocessors} * kMostSums * 4),
      ready_(Place::kDevice, std::int64_t{multiprocessors} * kMostGroups * kMostPieces * 4) {
  check(cudaMemset(ready_.as<void>(), 0, static_cast<std::size_t>(ready_.bytes())), "clearing flags");
}

void launch_wide4(const SmallProblem& linear, bool nested, bool isolated, std::optional<Activation> gate,
                  const Wide4Workspace& workspace, cudaStream_t stream) {
  const bool fp4 = linear.code == Code4::kFp4;  // exact in half precision once multiplied by 12
  Problem problem{linear,
                  {},
                  fp4 ? 1.0f / 12.0f : 1.0f,
                  static_cast<int>(row_tiles(linear)),
                  1,
                  0,
                  0,
                  workspace.sums(),
                  workspace.ready(),
                  gate.has_value(),
                  gate.value_or(Activation::kSilu)};
  for (int code = 0; code < 16; ++code)
    problem.centroids[code] = decoded(codebook(linear.code), code) * (fp4 ? 12.0f : 1.0f);
  for (int done = 0; done < linear.tokens; done += problem.linear.tokens) {
    const int left = linear.tokens - done, whole = left / kMostTokens * kMostTokens;
    problem.linear = pass_of(linear, done, whole == 0 ? left : isolated ? kMostTokens : whole, kOperandRow);
    nested ? launch_form<true>(problem, isolated, stream) : launch_form<false>(problem, isolated, stream);
  }
}

}  // namespace qtool::cuda
