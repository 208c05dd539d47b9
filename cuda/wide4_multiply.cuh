// The warps of wide4.cu that multiply: decoding, products, and the scales of their sums.
#pragma once

#include "cuda/wide4_finish.cuh"

namespace qtool::cuda::wide4 {

// One of the warps that multiply.
template <class S>
struct Multiplier : Finisher<S> {
  using Base = Finisher<S>;
  using Base::column, Base::group, Base::kSums, Base::kTokens, Base::lane, Base::line, Base::p, Base::part,
      Base::row, Base::shared, Base::tile, Base::warp;

  char* table;
  unsigned lane4 = static_cast<unsigned>(lane) * 4;

  // Of the rows that this warp is at.
  float nested[2] = {};  // rows g and g + 8
  float offset = 0.0f;

  __device__ Multiplier(const Problem& problem, const Line& of, char* memory)
      : Base(problem, of, shared_address(memory)), table(memory) {}

  __device__ __forceinline__ void aim(const Line::At& at) {
    tile = min(at.row_tile * S::kRowTiles + group * kGroupTiles + warp, p.tiles - 1);
    part = &part_at(p, tile);
    offset = part->offset;
    if constexpr (S::kNested)
#pragma unroll
      for (int side = 0; side < 2; ++side)
        nested[side] = part->nested[scale_of(side, at.unit) >> p.linear.nested_shift];
  }
  // The index of a row's pair of scales.
  __device__ __forceinline__ int scale_of(int side, int unit) const {
    return min(tile * kTileRows + row + side * 8, part->out - 1) * line.units + unit;
  }

  __device__ __forceinline__ unsigned pair(unsigned bytes, int byte) const {
    const unsigned from = __byte_perm(bytes, lane4, 0x7704 | (byte << 4));  // byte << 8 | lane * 4
    return *reinterpret_cast<const unsigned*>(table + from);
  }
  // 64 columns of this warp's row tile.
  __device__ __forceinline__ void decode(int stage, int half, unsigned (&a)[4][4]) const {
    const uint4 w = load_shared16(shared + S::kWeightsAt + stage * S::kWeightBytes +
                                  (group * kGroupTiles + warp) * 1024 + half * 512 + lane * 16);
    const unsigned low[2] = {w.x, w.y}, high[2] = {w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) a[i][j] = pair(j % 2 == 0 ? low[i / 2] : high[i / 2], i % 2 * 2 + j / 2);
  }
  // [half][row g or g + 8]
  __device__ __forceinline__ void load_scales(int stage, int unit, float (&scale)[2][2]) {
    const char* at =
        table + S::kScalesAt + stage * S::kScaleBytes + (group * kGroupTiles + warp) * S::kScalesOfTile;
    if constexpr (S::kNested) {
      const auto* map = reinterpret_cast<const float*>(table + kMapAt);
      const unsigned codes = reinterpret_cast<const unsigned*>(at)[row];
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int index = scale_of(side, unit);
        if ((index & ((1 << p.linear.nested_shift) - 1)) == 0)
          nested[side] = part->nested[index >> p.linear.nested_shift];
        scale[0][side] = fmaf(map[codes >> (side * 16) & 255], nested[side], offset);
        scale[1][side] = fmaf(map[codes >> (side * 16 + 8) & 255], nested[side], offset);
      }
    } else {
      const float4 s = reinterpret_cast<const float4*>(at)[row];
      scale[0][0] = s.x;
      scale[1][0] = s.y;
      scale[0][1] = s.z;
      scale[1][1] = s.w;
    }
  }
  // 64 columns' products with a part of the tokens, into d: one group.
  __device__ __forceinline__ void start(int stage, int half, int of, const unsigned (&a)[4][4],
                                        float (&d)[S::kPartSums]) const {
    const std::uint64_t b =
        operand_at(shared + kRingAt + stage * S::kInputBytes + (half * kTokens + of * S::kPartTokens) * 128);
    begin_products();
#pragma unroll
    for (int i = 0; i < 4; ++i) multiply<S::kPartTokens>(d, a[i], b + i * 2, i > 0);
    end_products();
  }
  // The sums of 64 columns and a part of the tokens, when all but the last kPending groups are done.
  template <int kPending>
  static __device__ __forceinline__ void add(float (&d)[S::kPartSums], int of, const float (&scale)[2],
                                             float (&total)[kSums]) {
    await_products<kPending>(d);
#pragma unroll
    for (int i = 0; i < S::kPartSums; ++i) {
      float& sum = total[of * S::kPartSums + i];
      sum = fmaf(scale[i / 2 % 2], d[i], sum);
    }
  }
};

// What one of the threads that multiply does.
template <class S>
__device__ __forceinline__ void multiply_all(const Problem& p, const Line& line, std::int64_t begin,
                                             std::int64_t end, char* table, unsigned full, unsigned empty) {
  constexpr int kSums = S::kSums;
  if (const auto thread = static_cast<int>(threadIdx.x); thread < 256) {
    const __half2 pair = __floats2half2_rn(p.centroids[thread >> 4], p.centroids[thread & 15]);
    const unsigned bits = *reinterpret_cast<const unsigned*>(&pair);
#pragma unroll
    for (int i = 0; i < 8; ++i)  // neighbours begin at different banks
      *reinterpret_cast<uint4*>(table + thread * kPitch + (i + thread) % 8 * 16) =
          uint4{bits, bits, bits, bits};
    if (S::kNested) reinterpret_cast<float*>(table + kMapAt)[thread] = p.linear.map[thread];
  }
  synchronize(1 + S::kGroups, S::kMultipliers);
  wait_for_predecessor();

  Multiplier<S> m(p, line, table);
  Line::At at = line.at(begin);
  m.aim(at);
  // Of the two groups of products that are under way the older is added up while the younger runs.
  float total[kSums] = {}, d[2][S::kPartSums];
  unsigned even[4][4], odd[4][4];
  float scale[2][2];
  int stage = 0;
  unsigned parity = 0;
  await_phase(full, 0);
  m.decode(0, 0, even);
#pragma unroll 1
  for (auto left = static_cast<int>(end - begin); left > 0; --left) {
    const int next = stage + 1 == S::kStages ? 0 : stage + 1;
    if (next == 0) parity ^= 1;
    const auto decode_next = [&] {
      if (left == 1) return;
      await_phase(full + next * 8, parity);
      m.decode(next, 0, even);
    };
    m.start(stage, 0, 0, even, d[0]);
    if constexpr (S::kParts == 2) m.start(stage, 0, 1, even, d[1]);
    m.load_scales(stage, at.unit, scale);
    m.decode(stage, 1, odd);
    if constexpr (S::kParts == 2) {
      m.template add<1>(d[0], 0, scale[0], total);
      m.start(stage, 1, 0, odd, d[0]);
      m.template add<1>(d[1], 1, scale[0], total);
      m.start(stage, 1, 1, odd, d[1]);
      decode_next();
      m.template add<1>(d[0], 0, scale[1], total);
    } else {
      m.start(stage, 1, 0, odd, d[1]);
      m.template add<1>(d[0], 0, scale[0], total);
      decode_next();
    }
    m.template add<0>(d[1], S::kParts - 1, scale[1], total);
    if (m.lane == 0) arrive(empty + stage * 8);
    stage = next;
    if (++at.unit == line.units || left == 1) {
      m.finish(at, total);
      line.advance(at);
      m.aim(at);
#pragma unroll
      for (int i = 0; i < kSums; ++i) total[i] = 0.0f;
    }
  }
}

}  // namespace qtool::cuda::wide4
