// What a thread block of prefill_wgmma.cu works on, and how it comes to shared memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/attention.h"
#include "cuda/hopper16.cuh"
#include "cuda/scores.cuh"

namespace qtool::cuda::prefill {

inline constexpr int kWarpgroup = 128, kGroups = 2;
inline constexpr int kThreads = (kGroups + 1) * kWarpgroup;  // the first copies
inline constexpr int kCopyRegisters = 24, kProductRegisters = 240;
inline constexpr int kTurn = 1;    // barriers by name: a warpgroup's turn, 1 and 2
inline constexpr int kZeros = 3;   // values beyond the end are 0
inline constexpr int kPiece = 64;  // columns of 16-bit values that lie together: 128 bytes
inline constexpr int kRowBytes = 128;
inline constexpr int kStages = 2;
static_assert(kQueryTile == kGroups * 64);

template <int kDim>
struct Layout {
  static constexpr int kKeys = kDim > 128 ? 64 : 128;  // positions of one step
  static constexpr int kPieces = kDim / kPiece;
  static constexpr int kQueryBytes = kQueryTile * kDim * 2, kTileBytes = kKeys * kDim * 2;
  static constexpr int kKeysAt = kQueryBytes, kValuesAt = kKeysAt + kStages * kTileBytes;
  static constexpr int kBytes = kValuesAt + kStages * kTileBytes + 1024;  // and what alignment takes
  static constexpr int kColumns = std::min(kDim, 128);                    // of one product with values
  static constexpr int kSums = kDim / kColumns;
};

struct Problem {
  CUtensorMap queries;  // [rows, heads, head_dim]
  CUtensorMap keys;     // [sequences * kv_heads, positions, head_dim]
  CUtensorMap values;
  void* out;
  ScoreRule rule;
  const QueryTile* tiles;
  int tile_count, heads, kv_heads, head_dim;
};

// What a thread block does in its n-th round: every tile of all heads before the next, so that tiles of one
// head share its keys and values, and all thread blocks have as much to do.
struct Work {
  QueryTile tile;
  int head, first_step, end, steps;  // positions below `end`; steps [first_step, steps)
};

// False: there is no such round. Of a round's last thread blocks some have nothing: steps is 0.
template <int kKeys>
__device__ __forceinline__ bool work_of(const Problem& p, int n, Work& work) {
  const auto blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  // Back and forth: who had the larger piece of one round has the smaller of the next.
  const int index = n * blocks + (n % 2 == 0 ? block : blocks - 1 - block);
  if (n * blocks >= p.tile_count * p.heads) return false;
  work.steps = 0;
  if (index >= p.tile_count * p.heads) return true;
  work.head = index % p.heads;
  work.tile = p.tiles[p.tile_count - 1 - index / p.heads];
  work.end = work.tile.position + work.tile.count;
  work.first_step = first_seen(p.rule, work.tile.position) / kKeys;
  work.steps = (work.end + kKeys - 1) / kKeys;
  return true;
}

// The first multiple of 1024 from `memory` on.
__device__ __forceinline__ char* aligned(char* memory) {
  return memory + (1024 - shared_address(memory) % 1024) % 1024;
}

// Barriers of queries and of stages: [0] is full, [1] is empty.
struct Barriers {
  std::uint64_t queries[2], keys[2][kStages], values[2][kStages];
};

// Which stage comes next, and how often the ring has gone round.
struct Ring {
  int stage = 0;
  unsigned parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What the thread that copies does.
template <int kDim>
__device__ __forceinline__ void copy_all(const Problem& p, unsigned shared, Barriers& barriers) {
  using L = Layout<kDim>;
  Ring ring;
  Work work;
  unsigned item = 0;
  for (int n = 0; work_of<L::kKeys>(p, n, work); ++n) {
    if (work.steps == 0) continue;
    const int head = work.tile.sequence * p.kv_heads + work.head / (p.heads / p.kv_heads);
    await_phase(shared_address(&barriers.queries[1]), item++ % 2 ^ 1);
    const unsigned queries = shared_address(&barriers.queries[0]);
    arrive_expecting(queries, L::kQueryBytes);
    for (int i = 0; i < L::kPieces; ++i)
      copy_box3(shared + static_cast<unsigned>(i * kQueryTile * kRowBytes), p.queries, i * kPiece, work.head,
                work.tile.row, queries);
    for (int step = work.steps - 1; step >= work.first_step; --step) {
      const auto copy = [&](const CUtensorMap& map, std::uint64_t(&both)[2][kStages], int at) {
        const unsigned full = shared_address(&both[0][ring.stage]);
        await_phase(shared_address(&both[1][ring.stage]), ring.parity ^ 1);
        arrive_expecting(full, L::kTileBytes);
        for (int i = 0; i < L::kPieces; ++i)
          copy_box3(
              shared + static_cast<unsigned>(at + ring.stage * L::kTileBytes + i * L::kKeys * kRowBytes), map,
              i * kPiece, step * L::kKeys, head, full);
      };
      copy(p.keys, barriers.keys, L::kKeysAt);
      copy(p.values, barriers.values, L::kValuesAt);
      ring.advance();
    }
  }
}

}  // namespace qtool::cuda::prefill
