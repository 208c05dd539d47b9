// From the sums of wide4.cu's warps to stored results: what pieces of a product leave for each other, and how
// a warpgroup's 64 rows reach memory.
#pragma once

#include "cuda/device_math.cuh"
#include "cuda/one_token_inputs.cuh"
#include "cuda/wide4_copy.cuh"

namespace qtool::cuda::wide4 {

// One of the warps that multiply, at the end of a product.
template <class S>
struct Finisher {
  static constexpr int kTokens = S::kTokens, kSums = S::kSums;

  const Problem& p;
  const Line& line;
  unsigned shared;
  int group, warp, lane, row, column;  // of the group; row and column of the fragment

  // The rows of the product that this warp is at.
  const SmallPart* part = nullptr;
  int tile = 0;  // of the part

  __device__ Finisher(const Problem& problem, const Line& of, unsigned memory)
      : p(problem),
        line(of),
        shared(memory),
        group(static_cast<int>(threadIdx.x) / kGroupThreads),
        warp(static_cast<int>(threadIdx.x) / 32 % 4),
        lane(static_cast<int>(threadIdx.x) % 32),
        row(lane / 4),
        column(lane % 4) {}

  // Of the group. Read anew: what only the end of a product needs shall not take registers before.
  static __device__ __forceinline__ int thread() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread % kGroupThreads;
  }
  // Sums of a block's piece of a product, [kSums / 4][kGroupThreads] in this thread's places.
  __device__ __forceinline__ float4* sums_of(std::int64_t block) const {
    return reinterpret_cast<float4*>(p.sums) + (block * S::kGroups + group) * (kSums / 4 * kGroupThreads) +
           thread();
  }
  // Where `from` says to `block` that its sums are there.
  __device__ __forceinline__ unsigned* flag_of(std::int64_t block, std::int64_t from) const {
    return p.ready + (block * S::kGroups + group) * kMostPieces + from;
  }
  __device__ __forceinline__ void leave_sums(const float (&total)[kSums]) const {
    float4* to = sums_of(blockIdx.x);
#pragma unroll
    for (int i = 0; i < kSums / 4; ++i)
      __stcg(to + i * kGroupThreads,
             float4{total[i * 4], total[i * 4 + 1], total[i * 4 + 2], total[i * 4 + 3]});
    synchronize(1 + group, kGroupThreads);
  }
  // Sums of a product whose columns are in several pieces of the line: the thread block of the first waits
  // for all others and gets the whole; false in those.
  __device__ __forceinline__ bool complete(int product, float (&total)[kSums]) const {
    const std::int64_t block = blockIdx.x, begin = static_cast<std::int64_t>(product) * line.units;
    const std::int64_t first = line.owner(begin), last = line.owner(begin + line.units - 1);
    if (first == last) return true;
    if (block != first) {
      leave_sums(total);
      if (thread() == 0) raise_flag(flag_of(block, 0));
      return false;
    }
    for (std::int64_t of = first + 1 + thread(); of <= last; of += kGroupThreads) await_flag(flag_of(of, 0));
    synchronize(1 + group, kGroupThreads);
    for (std::int64_t of = first + 1; of <= last; ++of) {
      const float4* from = sums_of(of);
#pragma unroll
      for (int i = 0; i < kSums / 4; ++i) add_to(total, i, __ldcg(from + i * kGroupThreads));
    }
    return true;
  }
  template <int kCount>
  static __device__ __forceinline__ void add_to(float (&total)[kCount], int i, const float4& v) {
    total[i * 4] += v.x;
    total[i * 4 + 1] += v.y;
    total[i * 4 + 2] += v.z;
    total[i * 4 + 3] += v.w;
  }

  // The last of a product: from all its sums to stored results.
  __device__ __forceinline__ void finish(const Line::At& at, float (&total)[kSums]) const {
    if constexpr (S::kShares)
      if (line.pieces > 0) return finish_share(at, total);
    if (complete(at.product, total)) store<kSums / 4>(at, total, 0, kSums / 4);
  }
  // Each of the product's blocks has an equal share of its groups of 8 tokens.
  __device__ __forceinline__ void finish_share(const Line::At& at, const float (&total)[kSums]) const {
    constexpr int kEights = kSums / 4, kMost = (kEights + kLeastPieces - 1) / kLeastPieces;
    const int pieces = line.pieces, piece = static_cast<int>(blockIdx.x) % pieces;
    const std::int64_t block = blockIdx.x, first_block = block - piece;
    const int first = piece * kEights / pieces, count = (piece + 1) * kEights / pieces - first;
    leave_sums(total);
    if (thread() < pieces && thread() != piece) {
      raise_flag(flag_of(first_block + thread(), piece));
      await_flag(flag_of(block, thread()));
    }
    synchronize(1 + group, kGroupThreads);
    float share[kMost * 4] = {};
#pragma unroll 4
    for (int of = 0; of < pieces; ++of) {
      const float4* from = sums_of(first_block + of) + first * kGroupThreads;
#pragma unroll
      for (int i = 0; i < kMost; ++i)
        if (i < count) add_to(share, i, __ldcg(from + i * kGroupThreads));
    }
    store<kMost>(at, share, first, count);
  }

  // Results of 8 tokens and 16 rows, transposed on their way: a token's gap of the table holds its 64 rows.
  __device__ __forceinline__ unsigned gap(int token, int chunk) const {
    return shared + (group * (256 / S::kGroups) + token) * kPitch + 128 + ((chunk ^ (token & 7)) * 16);
  }
  __device__ __forceinline__ unsigned packed(float low, float high) const {
    if (p.linear.type == DType::kF16) {
      const __half2 v = __floats2half2_rn(low, high);
      return *reinterpret_cast<const unsigned*>(&v);
    }
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&v);
  }
  // `total` has the sums of `count` groups of 8 tokens, at most kMost, from the group `first` on.
  template <int kMost>
  __device__ __forceinline__ void store(const Line::At& at, const float (&total)[kMost * 4], int first,
                                        int count) const {
    const SmallProblem& linear = p.linear;
    const int out_row = tile * kTileRows + row, first_token = at.token_tile * kTokens + first * 8;
    float bias[2] = {};
    if (part->bias)
#pragma unroll
      for (int side = 0; side < 2; ++side) bias[side] = part->bias[min(out_row + side * 8, part->out - 1)];
    synchronize(1 + group, kGroupThreads);  // the product before has left the gaps
    constexpr int kAtOnce = std::min(kMost, S::kGroups == 2 ? 8 : 2);
#pragma unroll
    for (int begin = 0; begin < kMost; begin += kAtOnce) {
      float2 x_scales[kAtOnce];  // on their way together
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (begin + i < count)
          x_scales[i] = __ldcg(
              reinterpret_cast<const float2*>(linear.x_scales + first_token + (begin + i) * 8 + column * 2));
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int n = begin + i;
        if (n >= count) break;
        unsigned pairs[2];
#pragma unroll
        for (int side = 0; side < 2; ++side)
          pairs[side] = packed(total[n * 4 + side * 2] * (p.unit * x_scales[i].x) + bias[side],
                               total[n * 4 + side * 2 + 1] * (p.unit * x_scales[i].y) + bias[side]);
#if QTOOL_HAS_WGMMA
        asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(
                         gap(n * 8 + lane % 8, warp * 2 + lane / 8 % 2)),
                     "r"(pairs[0]), "r"(pairs[1])
                     : "memory");
#endif
      }
    }
    synchronize(1 + group, kGroupThreads);
    const int tokens = min(count * 8, linear.tokens - first_token);
    const int first_tile = at.row_tile * S::kRowTiles + group * kGroupTiles;
    if (p.gates)
      store_gated(first_tile, first_token, tokens);
    else
      store_plain(first_tile, first_token, tokens);
  }
  // Of a token's 64 rows in its gap, a thread has 8.
  __device__ __forceinline__ void store_plain(int to_tile, int first_token, int tokens) const {
    constexpr int kTokensAtOnce = kGroupThreads / 8,
                  kTurns = std::min(S::kGroups == 2 ? 4 : 1, (kTokens + 15) / 16);
    const SmallProblem& linear = p.linear;
    const int chunk = thread() % 8;
    to_tile += chunk / 2;
    if (to_tile >= p.tiles) return;
    const SmallPart& to = part_at(p, to_tile);
    const int first_row = to_tile * kTileRows + chunk % 2 * 8, rows = min(8, to.out - first_row);
    const bool whole = rows == 8 && to.out % 8 == 0;
    for (int begin = thread() / 8; begin < tokens; begin += kTurns * kTokensAtOnce) {
      const auto place = [&](int token) {
        return static_cast<std::int64_t>(first_token + token) * to.out + first_row;
      };
      float4 was[kTurns][2];
      if (linear.residual && whole)  // on their way together
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn)
          if (const int token = begin + turn * kTokensAtOnce; token < tokens)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              was[turn][i] = reinterpret_cast<const float4*>(linear.residual + place(token))[i];
#pragma unroll
      for (int turn = 0; turn < kTurns; ++turn) {
        const int token = begin + turn * kTokensAtOnce;
        if (token >= tokens) break;
        Vec<unsigned short, 8> values;
        *reinterpret_cast<uint4*>(&values) = load_shared16(gap(token, chunk));
        if (!whole)
          store_some(to, place(token), rows, values);
        else if (linear.residual)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const float4 v = was[turn][i];
            const auto value = [&](int of) { return value_of(values.values[i * 4 + of]); };
            reinterpret_cast<float4*>(linear.residual + place(token))[i] = {v.x + value(0), v.y + value(1),
                                                                            v.z + value(2), v.w + value(3)};
          }
        else
          *reinterpret_cast<uint4*>(static_cast<unsigned short*>(to.y) + place(token)) =
              *reinterpret_cast<const uint4*>(&values);
      }
    }
  }
  // Of a token's 32 rows of the gate in its gap, and the 32 that they are multiplied by, a thread has 4.
  __device__ __forceinline__ void store_gated(int to_tile, int first_token, int tokens) const {
    const int of = thread() % 8, chunk = of / 4 * 4 + of / 2 % 2, half = of % 2;
    to_tile += chunk / 2;
    if (to_tile >= p.tiles) return;
    const SmallPart& to = part_at(p, to_tile);
    const int first_row = to_tile * kTileRows + chunk % 2 * 8 + half * 4, rows = min(4, to.out - first_row);
    for (int token = thread() / 8; token < tokens; token += kGroupThreads / 8) {
      const auto load = [&](int from) {
        Vec<unsigned short, 4> loaded;
        *reinterpret_cast<uint2*>(&loaded) = load_shared8(gap(token, from) + half * 8);
        return loaded;
      };
      const auto up = load(chunk + 2);
      auto values = load(chunk);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float result = gated(value_of(values.values[i]), value_of(up.values[i]), p.activation);
        values.values[i] = p.linear.type == DType::kF16 ? __half_as_ushort(__float2half_rn(result))
                                                        : __bfloat16_as_ushort(__float2bfloat16_rn(result));
      }
      const std::int64_t at = static_cast<std::int64_t>(first_token + token) * to.out + first_row;
      if (rows == 4 && to.out % 4 == 0)
        *reinterpret_cast<uint2*>(static_cast<unsigned short*>(to.y) + at) =
            *reinterpret_cast<const uint2*>(&values);
      else
        store_some(to, at, rows, values);
    }
  }
  __device__ __forceinline__ float value_of(unsigned short bits) const {
    return p.linear.type == DType::kF16 ? __half2float(__ushort_as_half(bits))
                                        : __uint_as_float(static_cast<unsigned>(bits) << 16);
  }
  // Rows one by one: the last of a part, or of a part that is not a multiple of what vectors hold.
  template <int kCount>
  __device__ __forceinline__ void store_some(const SmallPart& to, std::int64_t at, int rows,
                                             const Vec<unsigned short, kCount>& values) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i >= rows) break;
      if (p.linear.residual)
        p.linear.residual[at + i] += value_of(values.values[i]);
      else
        static_cast<unsigned short*>(to.y)[at + i] = values.values[i];
    }
  }
};

}  // namespace qtool::cuda::wide4
