// The warps of wide4.cu that multiply: from the ring's stages to stored results.
#pragma once

#include "cuda/device_math.cuh"
#include "cuda/one_token_inputs.cuh"
#include "cuda/wide4_copy.cuh"

namespace qtool::cuda::wide4 {

// One of the warps that multiply.
template <class S>
struct Multiplier {
  static constexpr int kTokens = S::kTokens, kSums = S::kSums;

  const Problem& p;
  const Line& line;
  char* table;
  unsigned shared;
  int group, warp, lane, row, column;  // of the group; row and column of the fragment
  unsigned lane4;

  // The rows of the product that this warp is at.
  const SmallPart* part = nullptr;
  int tile = 0;  // of the part
  int nested_at[2] = {-1, -1};
  float nested[2] = {};
  float offset = 0.0f;

  __device__ Multiplier(const Problem& problem, const Line& of, char* memory)
      : p(problem),
        line(of),
        table(memory),
        shared(shared_address(memory)),
        group(static_cast<int>(threadIdx.x) / kGroupThreads),
        warp(static_cast<int>(threadIdx.x) / 32 % 4),
        lane(static_cast<int>(threadIdx.x) % 32),
        row(lane / 4),
        column(lane % 4),
        lane4(static_cast<unsigned>(lane) * 4) {}

  __device__ __forceinline__ void aim(int row_tile) {
    tile = min(row_tile * S::kRowTiles + group * kGroupTiles + warp, p.tiles - 1);
    part = &part_at(p, tile);
    offset = part->offset;
    nested_at[0] = nested_at[1] = -1;
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
        const int index = (min(tile * kTileRows + row + side * 8, part->out - 1) * line.units + unit) >>
                          p.linear.nested_shift;
        if (index != nested_at[side]) nested[side] = part->nested[nested_at[side] = index];
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

  // Sums of a product whose columns are in several pieces: the thread block of the first waits for all others
  // and gets the whole; false in those.
  __device__ __forceinline__ bool complete(int product, float (&total)[kSums]) const {
    const std::int64_t block = blockIdx.x, begin = static_cast<std::int64_t>(product) * line.units;
    const std::int64_t first = line.owner(begin), last = line.owner(begin + line.units - 1);
    if (first == last) return true;
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    const auto place = [&](std::int64_t of) {
      return reinterpret_cast<float4*>(p.sums) + (of * S::kGroups + group) * (kSums / 4 * kGroupThreads) +
             thread;
    };
    if (block != first) {
      float4* to = place(block);
#pragma unroll
      for (int i = 0; i < kSums / 4; ++i)
        __stcg(to + i * kGroupThreads,
               float4{total[i * 4], total[i * 4 + 1], total[i * 4 + 2], total[i * 4 + 3]});
      synchronize(1 + group, kGroupThreads);
      if (thread == 0) raise_flag(p.ready + block * S::kGroups + group);
      return false;
    }
    for (std::int64_t of = first + 1 + thread; of <= last; of += kGroupThreads)
      await_flag(p.ready + of * S::kGroups + group);
    synchronize(1 + group, kGroupThreads);
    for (std::int64_t of = first + 1; of <= last; ++of) {
      const float4* from = place(of);
#pragma unroll
      for (int i = 0; i < kSums / 4; ++i) {
        const float4 v = __ldcg(from + i * kGroupThreads);
        total[i * 4] += v.x;
        total[i * 4 + 1] += v.y;
        total[i * 4 + 2] += v.z;
        total[i * 4 + 3] += v.w;
      }
    }
    return true;
  }

  // Results of 8 tokens and 16 rows, transposed on their way: a token's gap of the table holds its 64 rows.
  __device__ __forceinline__ unsigned gap(int token, int chunk) const {
    return shared + (group * (256 / S::kGroups) + token) * kPitch + 128 + ((chunk ^ (token & 7)) * 16);
  }
  __device__ __forceinline__ void store(const Line::At& at, const float (&total)[kSums]) const {
    const SmallProblem& linear = p.linear;
    const int out_row = tile * kTileRows + row;
    float bias[2] = {};
    if (part->bias)
#pragma unroll
      for (int side = 0; side < 2; ++side) bias[side] = part->bias[min(out_row + side * 8, part->out - 1)];
    synchronize(1 + group, kGroupThreads);  // the product before has left the gaps
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
      const float2 x_scale = __ldcg(
          reinterpret_cast<const float2*>(linear.x_scales + at.token_tile * kTokens + n * 8 + column * 2));
      unsigned packed[2];
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const float a = total[n * 4 + side * 2] * (p.unit * x_scale.x) + bias[side],
                    b = total[n * 4 + side * 2 + 1] * (p.unit * x_scale.y) + bias[side];
        if (linear.type == DType::kF16) {
          const __half2 v = __floats2half2_rn(a, b);
          packed[side] = *reinterpret_cast<const unsigned*>(&v);
        } else {
          const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
          packed[side] = *reinterpret_cast<const unsigned*>(&v);
        }
      }
#if QTOOL_HAS_WGMMA
      asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(
                       gap(n * 8 + lane % 8, warp * 2 + lane / 8 % 2)),
                   "r"(packed[0]), "r"(packed[1])
                   : "memory");
#endif
    }
    synchronize(1 + group, kGroupThreads);
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads, chunk = thread % 8;
    int to_tile = at.row_tile * S::kRowTiles + group * kGroupTiles + chunk / 2;
    if (to_tile >= p.tiles || (p.gates && chunk / 2 % 2 != 0)) return;
    const SmallPart& to = part_at(p, to_tile);
    const int first_row = to_tile * kTileRows + chunk % 2 * 8, rows = min(8, to.out - first_row);
    for (int token = thread / 8; token < kTokens; token += kGroupThreads / 8) {
      const int of = at.token_tile * kTokens + token;
      if (of >= linear.tokens) break;
      Vec<unsigned short, 8> values;
      *reinterpret_cast<uint4*>(&values) = load_shared16(gap(token, chunk));
      if (p.gates) gate(values, load_shared16(gap(token, chunk + 2)));
      store_rows(to, static_cast<std::int64_t>(of) * to.out + first_row, rows, values);
    }
  }
  __device__ __forceinline__ float value_of(unsigned short bits) const {
    return p.linear.type == DType::kF16 ? __half2float(__ushort_as_half(bits))
                                        : __uint_as_float(static_cast<unsigned>(bits) << 16);
  }
  __device__ __forceinline__ void gate(Vec<unsigned short, 8>& values, const uint4& raw) const {
    const auto& up = reinterpret_cast<const Vec<unsigned short, 8>&>(raw);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float result = gated(value_of(values.values[i]), value_of(up.values[i]), p.activation);
      values.values[i] = p.linear.type == DType::kF16 ? __half_as_ushort(__float2half_rn(result))
                                                      : __bfloat16_as_ushort(__float2bfloat16_rn(result));
    }
  }
  __device__ __forceinline__ void store_rows(const SmallPart& to, std::int64_t at, int rows,
                                             const Vec<unsigned short, 8>& values) const {
    const SmallProblem& linear = p.linear;
    if (!linear.residual && rows == 8 && to.out % 8 == 0) {
      *reinterpret_cast<uint4*>(static_cast<unsigned short*>(to.y) + at) =
          *reinterpret_cast<const uint4*>(&values);
      return;
    }
    const auto value = [&](int i) { return value_of(values.values[i]); };
    if (linear.residual && rows == 8 && to.out % 4 == 0) {
#pragma unroll
      for (int i = 0; i < 8; i += 4) {
        auto* sum = reinterpret_cast<float4*>(linear.residual + at + i);
        const float4 was = *sum;
        *sum = {was.x + value(i), was.y + value(i + 1), was.z + value(i + 2), was.w + value(i + 3)};
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= rows) break;
      if (linear.residual)
        linear.residual[at + i] += value(i);
      else
        static_cast<unsigned short*>(to.y)[at + i] = values.values[i];
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
  m.aim(at.row_tile);
  // Of the two groups of products that are under way the older is added up while the younger runs.
  float total[kSums] = {}, d[2][S::kPartSums];
  unsigned even[4][4], odd[4][4];
  float scale[2][2];
  int stage = 0;
  unsigned parity = 0;
  await_phase(full, 0);
  m.decode(0, 0, even);
#pragma unroll 1
  for (std::int64_t step = begin; step < end; ++step) {
    const int next = stage + 1 == S::kStages ? 0 : stage + 1;
    if (next == 0) parity ^= 1;
    const auto decode_next = [&] {
      if (step + 1 == end) return;
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
    if (++at.unit == line.units || step + 1 == end) {
      if (m.complete(at.product, total)) m.store(at, total);
      line.advance(at);
      m.aim(at.row_tile);
#pragma unroll
      for (int i = 0; i < kSums; ++i) total[i] = 0.0f;
    }
  }
}

}  // namespace qtool::cuda::wide4
