// What the kernel of wide4.cu keeps in shared memory, how the work is divided among thread blocks, and the
// warpgroup that fetches weights and inputs.
#pragma once

#include <algorithm>

#include "cuda/hopper.cuh"
#include "cuda/launch.cuh"
#include "cuda/small_linear.cuh"

namespace qtool::cuda::wide4 {

constexpr int kGroupThreads = 128;  // a warpgroup's, which has 4 row tiles
constexpr int kGroupTiles = 4;
constexpr int kMostTokens = 128;  // of a pass
constexpr int kOperandRow = 128;  // bytes: 64 columns of a token
constexpr int kLeastPieces = 3;   // of a product, for its blocks to share what comes after the sums
constexpr int kMostPieces = 16;
constexpr int kPitch = 256;  // bytes of a table entry: the byte lands in bits 8-15
// Shared memory: table | map | barriers | inputs | weights | scales. Results leave through the gaps of the
// table: a token's 64 rows of a group fill one.
constexpr int kMapAt = 256 * kPitch;
constexpr int kBarriersAt = kMapAt + 1024;
constexpr int kRingAt = kBarriersAt + 1024;
constexpr int kMostShared = 227 * 1024;

struct Problem {
  SmallProblem linear;
  float centroids[16];
  float unit;  // what the centroids' scale is divided by
  int tiles;   // of 16 rows, all parts
  int token_tiles;
  std::int64_t steps;  // of all thread blocks
  int pieces;          // of a product, as many as there are thread blocks for it; 0: the steps are one line
  float* sums;         // [thread blocks][kGroups][kTokens / 8][kGroupThreads] float4
  unsigned* ready;     // [thread blocks][kGroups][kMostPieces]: another block's sums are there for this one
  bool gates;          // two parts of as many rows: act(first) * second is what is stored, as the first's
  Activation activation;
};

// The part that row tile `tile` of all parts lies in; `tile` becomes its index there. Those of a gate and of
// what it is multiplied by take turns, so that a warpgroup has both.
__device__ __forceinline__ const SmallPart& part_at(const Problem& p, int& tile) {
  if (!p.gates) return part_of(p.linear, tile);
  const SmallPart& part = p.linear.parts[tile % 2];
  tile /= 2;
  return part;
}

// kGroups warpgroups multiply, for kTokens at a time.
template <bool nested, int tokens, int groups>
struct Shape {
  static constexpr bool kNested = nested;
  static constexpr int kTokens = tokens, kGroups = groups;
  static constexpr int kMultipliers = kGroups * kGroupThreads, kThreads = kMultipliers + kGroupThreads;
  static constexpr int kSums = kTokens / 2;  // of a thread
  // Tokens of a group of products.
  static constexpr int kParts = kTokens == kMostTokens ? 2 : 1, kPartTokens = kTokens / kParts,
                       kPartSums = kSums / kParts;
  // Of a thread; all together at most what they begin with.
  static constexpr int kCopyRegisters = 40, kMultiplyRegisters = kGroups == 2 ? 232 : 104;
  static constexpr int kRowTiles = kGroups * kGroupTiles;
  static constexpr bool kShares = kGroups == 2;  // may have pieces: four groups are for matrices of many rows
  // Of a stage.
  static constexpr int kInputBytes = 2 * kTokens * 128;
  static constexpr int kWeightBytes = kRowTiles * 1024;
  static constexpr int kScalesOfTile = kNested ? 32 : 128;
  static constexpr int kScaleBytes = kRowTiles * kScalesOfTile;
  static constexpr int kStageBytes = kInputBytes + kWeightBytes + kScaleBytes;
  static constexpr int kStages = std::min((kMostShared - kRingAt) / kStageBytes, 12);
  static constexpr int kWeightsAt = kRingAt + kStages * kInputBytes;
  static constexpr int kScalesAt = kWeightsAt + kStages * kWeightBytes;
  static constexpr int kBytes = kScalesAt + kStages * kScaleBytes;
};

// A thread block's piece of the line, and where a step lies.
struct Line {
  std::int64_t steps;
  int units, token_tiles, pieces;

  __device__ std::int64_t begin(std::int64_t block) const {
    if (pieces == 0) return block * steps / gridDim.x;
    return block / pieces * units + block % pieces * units / pieces;
  }
  __device__ std::int64_t owner(std::int64_t step) const { return ((step + 1) * gridDim.x - 1) / steps; }
  struct At {
    int unit, row_tile, token_tile, product;
  };
  __device__ At at(std::int64_t step) const {
    const auto product = static_cast<int>(step / units);
    return {static_cast<int>(step - static_cast<std::int64_t>(product) * units), product / token_tiles,
            product % token_tiles, product};
  }
  // To the next product.
  __device__ void advance(At& at) const {
    at.unit = 0;
    ++at.product;
    if (++at.token_tile == token_tiles) {
      at.token_tile = 0;
      ++at.row_tile;
    }
  }
};

// One of the threads that fill the ring, all of a warpgroup: a warp copies the codes and scales of two row
// tiles, the first thread has the copy engine fetch the inputs.
template <class S>
struct Filler {
  static constexpr int kPieces = S::kScalesOfTile / 16;

  const Problem& p;
  const Line& line;
  unsigned shared, full;
  int thread, warp, lane;
  std::uint64_t policy =
      line.token_tiles == 1 ? evict_first() : evict_normally();  // other tokens read them too

  // Of what is copied next.
  Line::At weights_at{}, inputs_at{};
  const char* codes[S::kGroups];
  const char* scales = nullptr;

  __device__ Filler(const Problem& problem, const Line& of, std::int64_t begin, unsigned memory,
                    unsigned barriers)
      : p(problem),
        line(of),
        shared(memory),
        full(barriers),
        thread(static_cast<int>(threadIdx.x) % kGroupThreads),
        warp(thread / 32),
        lane(thread % 32) {
    weights_at = inputs_at = line.at(begin);
    aim();
  }

  __device__ __forceinline__ void aim() {
#pragma unroll
    for (int i = 0; i < S::kGroups; ++i) {
      // Beyond the last tile: nobody stores what becomes of these.
      int tile = min(weights_at.row_tile * S::kRowTiles + warp * S::kGroups + i, p.tiles - 1);
      const SmallPart& part = part_at(p, tile);
      const std::int64_t unit = static_cast<std::int64_t>(tile) * line.units + weights_at.unit;
      codes[i] = static_cast<const char*>(part.weight) + unit * 1024 + lane * 16;
      if (lane / kPieces == i)
        scales = static_cast<const char*>(part.scales) + unit * S::kScalesOfTile + lane % kPieces * 16;
    }
  }
  __device__ __forceinline__ void copy_weights(int stage) {
    const unsigned to =
        shared + S::kWeightsAt + stage * S::kWeightBytes + warp * (S::kGroups * 1024) + lane * 16;
#pragma unroll
    for (int i = 0; i < S::kGroups; ++i) {
      copy16_streaming(to + i * 1024, codes[i], policy);
      copy16_streaming(to + i * 1024 + 512, codes[i] + 512, policy);
      codes[i] += 1024;
    }
    if (lane < S::kGroups * kPieces)
      copy16(
          shared + S::kScalesAt + stage * S::kScaleBytes + warp * (S::kGroups * S::kScalesOfTile) + lane * 16,
          scales, true);
    scales += S::kScalesOfTile;
    arrive_after_copies(full + stage * 8);
    if (++weights_at.unit == line.units) {
      line.advance(weights_at);
      aim();
    }
  }
  __device__ __forceinline__ void copy_inputs(int stage) {
    if (thread != 0) return;
    const unsigned barrier = full + stage * 8, to = shared + kRingAt + stage * S::kInputBytes;
    const char* from =
        static_cast<const char*>(p.linear.x) +
        (inputs_at.unit * 2 * p.linear.x_stride + inputs_at.token_tile * std::int64_t{S::kTokens}) * 128;
    arrive_expecting(barrier, S::kInputBytes);
    bulk_copy(to, from, S::kTokens * 128, barrier);
    bulk_copy(to + S::kTokens * 128, from + p.linear.x_stride * 128, S::kTokens * 128, barrier);
    if (++inputs_at.unit == line.units) line.advance(inputs_at);
  }
};

template <class S>
__device__ __forceinline__ void fill_ring(const Problem& p, const Line& line, std::int64_t begin,
                                          std::int64_t end, unsigned shared, unsigned full, unsigned empty) {
  constexpr int kStages = S::kStages;
  Filler<S> filler(p, line, begin, shared, full);
  const auto count = static_cast<int>(end - begin), first = min(count, kStages);
  for (int i = 0; i < first; ++i) filler.copy_weights(i);
  wait_for_predecessor();
  for (int i = 0; i < first; ++i) filler.copy_inputs(i);
  int stage = 0;
  unsigned parity = 0;
  for (int step = first; step < count; ++step) {
    await_phase(empty + stage * 8, parity);
    filler.copy_weights(stage);
    filler.copy_inputs(stage);
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

}  // namespace qtool::cuda::wide4
