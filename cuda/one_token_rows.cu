// One token, dense 16-bit or LLM.int8 rows: reading the weights is all there is to it.
//
//   - Every thread block makes its inputs itself (one_token_inputs.cuh). LLM.int8 quantizes them
//     too, and marks the outliers: with one token no other thread block has a say in them. They are
//     multiplied as their columns' weights pass by.
//   - A warp takes consecutive rows, 512 bytes at a time, 16 to a lane. A lane copies (cp.async)
//     exactly the bytes that it will use itself, far enough ahead to keep the memory busy.
//   - As with one_token4.cu, a multiprocessor has room for one thread block of this kernel and one
//     of the next.
#include <algorithm>
#include <type_traits>

#include "cuda/dispatch.h"
#include "cuda/int8_linear.cuh"
#include "cuda/one_token_inputs.cuh"
#include "cuda/one_token_rows.h"
#include "cuda/small_linear.cuh"

namespace qtool::cuda {
namespace {

constexpr std::int64_t kMostColumns = 16384;
constexpr int kMostShared = 112 * 1024;  // two thread blocks and some small ones fill a multiprocessor

struct Problem {
  SmallProblem linear;
  HalfInputs inputs;
  float threshold;  // int8
  int rows;         // of a thread block; the first `more` have one more
  int more;
};

// Shared memory: copies in flight [warp][kDepth][512] | sums [rows] | inputs of the layer's type [padded] |
// what the form needs.
constexpr int flight_bytes(int depth) { return kTokenWarps * depth * 512; }
template <typename Sum>
constexpr std::int64_t sums_bytes(std::int64_t rows) {  // of at most one more
  return (rows + 4) / 4 * 4 * static_cast<std::int64_t>(sizeof(Sum));
}

// Format:
//   Type           of the layer
//   Sum            of a row: what multiply adds to; join() adds that of the lane so many away
//   kDepth         copies of 512 bytes in flight per warp
//   kColumns       of 16 bytes
//   kExtraEighths  bytes of shared memory for an input column, times 8
//   prepare        before the predecessor has finished; ends synchronized if anything is written
//   finish_inputs  from typed values in shared memory to what multiply reads; ends synchronized
//   multiply       adds the products of a lane's 16 bytes
//   value          of a sum, rounded to the layer's type
template <typename T>
struct Dense {
  using Type = T;
  struct Sum {
    float value;
    __device__ __forceinline__ void join(int lanes) { value += __shfl_xor_sync(0xffffffffu, value, lanes); }
  };
  static constexpr bool kHalf = std::is_same_v<T, __half>;
  static constexpr int kDepth = 20;
  static constexpr int kColumns = 8;
  static constexpr int kExtraEighths = 0;
  struct Inputs {
    const uint4* typed;
  };
  static __device__ __forceinline__ void prepare(char*, int) {}
  static __device__ __forceinline__ Inputs finish_inputs(const Problem&, uint2* typed, char*, float*) {
    __syncthreads();
    return {reinterpret_cast<const uint4*>(typed)};
  }
  static __device__ __forceinline__ void multiply(const Inputs& inputs, int vector, const uint4& weights,
                                                  float, Sum& sum) {
    const uint4 x = inputs.typed[vector];
    const float4 w[2] = {widened<kHalf>({weights.x, weights.y}), widened<kHalf>({weights.z, weights.w})};
    const float4 v[2] = {widened<kHalf>({x.x, x.y}), widened<kHalf>({x.z, x.w})};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum.value = fmaf(w[i].x, v[i].x, sum.value);
      sum.value = fmaf(w[i].y, v[i].y, sum.value);
      sum.value = fmaf(w[i].z, v[i].z, sum.value);
      sum.value = fmaf(w[i].w, v[i].w, sum.value);
    }
  }
  static __device__ __forceinline__ float row_scale(const SmallPart&, int) { return 0.0f; }
  static __device__ __forceinline__ float value(const SmallPart& part, const Inputs&, const Sum& sum,
                                                int row) {
    return rounded<T>(sum.value + (part.bias ? part.bias[row] : 0.0f));
  }
};

// Behind the typed inputs: codes [padded] | one bit for each outlier column [padded / 8].
template <typename T>
struct Int8 {
  using Type = T;
  struct Sum {
    int exact;
    float outliers;
    __device__ __forceinline__ void join(int lanes) {
      exact += __shfl_xor_sync(0xffffffffu, exact, lanes);
      outliers += __shfl_xor_sync(0xffffffffu, outliers, lanes);
    }
  };
  static constexpr bool kHalf = std::is_same_v<T, __half>;
  static constexpr DType kType = kHalf ? DType::kF16 : DType::kBF16;
  static constexpr int kDepth = 16;
  static constexpr int kColumns = 16;
  static constexpr int kExtraEighths = 9;
  struct Inputs {
    const uint4* codes;
    const std::uint16_t* outliers;  // bits of the columns of a vector
    const T* typed;
    float absmax;
    bool any_outlier;
  };
  static __device__ __forceinline__ void prepare(char* extra, int padded) {
    for (int i = threadIdx.x; i < padded / 32; i += kTokenThreads)
      reinterpret_cast<unsigned*>(extra + padded)[i] = 0;
    __syncthreads();
  }
  static __device__ __forceinline__ Inputs finish_inputs(const Problem& p, uint2* typed, char* extra,
                                                         float* scratch) {
    const int padded = static_cast<int>(p.inputs.padded);
    auto* mask = reinterpret_cast<unsigned*>(extra + padded);
    const auto halves = [&](int j) {
      const float4 v = widened<kHalf>(typed[token_column(j) / 4]);
      return float4{rounded<__half>(v.x), rounded<__half>(v.y), rounded<__half>(v.z), rounded<__half>(v.w)};
    };
    const auto is_outlier = [&](float x) { return p.threshold > 0.0f && fabsf(x) >= p.threshold; };
    float top = 0.0f;
    bool any = false;
#pragma unroll 1
    for (int j = 0; token_column(j) < padded; ++j) {  // each thread reads what it wrote
      const float4 v = halves(j);
      const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!is_outlier(values[i])) {
          top = fmaxf(top, fabsf(values[i]));
          continue;
        }
        const int column = token_column(j) + i;
        atomicOr(&mask[column / 32], 1u << column % 32);
        any = true;
      }
    }
    top = block_max<kTokenThreads>(top, scratch);
    const float scale = __fmul_rn(127.0f, reciprocal_ftz(top));
#pragma unroll 1
    for (int j = 0; token_column(j) < padded; ++j) {
      const float4 v = halves(j);
      const float values[4] = {v.x, v.y, v.z, v.w};
      unsigned codes = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float by_scale = __fmul_rn(values[i], scale);
        if (by_scale == by_scale && !is_outlier(values[i]))
          codes |= (static_cast<unsigned>(__float2int_rn(by_scale)) & 255u) << 8 * i;
      }
      reinterpret_cast<unsigned*>(extra)[token_column(j) / 4] = codes;
    }
    const bool any_outlier = __syncthreads_or(any);
    return {reinterpret_cast<const uint4*>(extra), reinterpret_cast<const std::uint16_t*>(mask),
            reinterpret_cast<const T*>(typed), top, any_outlier};
  }
  static __device__ __forceinline__ void multiply(const Inputs& inputs, int vector, const uint4& weights,
                                                  float row_absmax, Sum& sum) {
    const uint4 x = inputs.codes[vector];
    sum.exact = __dp4a(static_cast<int>(weights.x), static_cast<int>(x.x), sum.exact);
    sum.exact = __dp4a(static_cast<int>(weights.y), static_cast<int>(x.y), sum.exact);
    sum.exact = __dp4a(static_cast<int>(weights.z), static_cast<int>(x.z), sum.exact);
    sum.exact = __dp4a(static_cast<int>(weights.w), static_cast<int>(x.w), sum.exact);
    if (!inputs.any_outlier) return;
    const unsigned words[4] = {weights.x, weights.y, weights.z, weights.w};
    for (unsigned left = inputs.outliers[vector]; left != 0; left &= left - 1) {
      const int at = __ffs(static_cast<int>(left)) - 1;
      unsigned word = words[0];
#pragma unroll
      for (int i = 1; i < 4; ++i)
        if (at / 4 == i) word = words[i];
      const auto code = static_cast<std::int8_t>(word >> at % 4 * 8);
      const float w = outlier_weight(static_cast<float>(code), row_absmax, kType);
      sum.outliers = fmaf(to_float(inputs.typed[vector * kColumns + at]), w, sum.outliers);
    }
  }
  static __device__ __forceinline__ float row_scale(const SmallPart& part, int row) {
    return static_cast<const float*>(part.scales)[row];
  }
  static __device__ __forceinline__ float value(const SmallPart& part, const Inputs& inputs, const Sum& sum,
                                                int row) {
    const float value = int8_value(sum.exact, inputs.absmax, row_scale(part, row),
                                   part.bias ? part.bias + row : nullptr, kType);
    return inputs.any_outlier ? round_to(value + sum.outliers, kType) : value;
  }
};

// The part that row `row` of all parts lies in; `row` becomes its index there.
__device__ __forceinline__ const SmallPart& part_of_row(const SmallProblem& p, int& row) {
  int i = 0;
#pragma unroll 1
  while (i + 1 < p.part_count && row >= p.parts[i].out) row -= p.parts[i++].out;
  return p.parts[i];
}

template <class Format, Staging kStaging>
__global__ void __maxnreg__(96) rows_kernel(const __grid_constant__ Problem p) {
  constexpr int kDepth = Format::kDepth, kColumns = Format::kColumns;
  constexpr int kElement = 16 / kColumns;
  extern __shared__ __align__(1024) char memory[];
  __shared__ float scratch[3 * kTokenWarps];
  const SmallProblem& linear = p.linear;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int padded = static_cast<int>(p.inputs.padded);
  let_successor_start();
  const auto block = static_cast<int>(blockIdx.x);
  const int first_row = block * p.rows + min(block, p.more), rows = p.rows + (block < p.more ? 1 : 0);
  const int begin = warp * rows / kTokenWarps, end = (warp + 1) * rows / kTokenWarps;
  auto* sums = reinterpret_cast<typename Format::Sum*>(memory + flight_bytes(kDepth));
  char* typed = memory + flight_bytes(kDepth) + sums_bytes<typename Format::Sum>(p.rows);
  char* extra = typed + padded * 2;

  // The copying side, kDepth steps ahead of the computing side.
  const int steps = (linear.columns + 32 * kColumns - 1) / (32 * kColumns);
  int next_row = begin, next_step = 0, slot = 0;
  const char* from = nullptr;
  const auto aim = [&] {
    int row = first_row + next_row;
    const SmallPart& part = part_of_row(linear, row);
    from = static_cast<const char*>(part.weight) +
           (static_cast<std::int64_t>(row) * linear.columns + lane * kColumns) * kElement;
  };
  const auto flight = static_cast<unsigned>(__cvta_generic_to_shared(memory)) +
                      static_cast<unsigned>(warp * kDepth * 512 + lane * 16);
  const auto copy = [&] {
    if (next_row < end) {
      const bool real = (next_step * 32 + lane) * kColumns < linear.columns;
      copy16(flight + static_cast<unsigned>(slot * 512),
             real ? from : static_cast<const char*>(linear.parts[0].weight), real);
      from += 512;
      if (++next_step == steps) {
        next_step = 0;
        if (++next_row < end) aim();
      }
    }
    end_copies();
    slot = slot + 1 == kDepth ? 0 : slot + 1;
  };
  if (begin < end) aim();
#pragma unroll 1
  for (int i = 0; i < kDepth; ++i) copy();
  Format::prepare(extra, padded);
  TokenInputs<kStaging> inputs;
  inputs.prepare(p.inputs, scratch);
  wait_for_predecessor();
  auto* values = reinterpret_cast<uint2*>(typed);
  inputs.template each<Format::kHalf>(p.inputs, scratch + kTokenWarps,
                                      [&](int column, uint2 raw) { values[column / 4] = raw; });
  const typename Format::Inputs ready = Format::finish_inputs(p, values, extra, scratch + 2 * kTokenWarps);
  // Of the first row that this thread will store: on its way while the product is computed.
  float before = 0.0f;
  if (linear.residual && static_cast<int>(threadIdx.x) < rows)
    before = linear.residual[first_row + static_cast<int>(threadIdx.x)];

#pragma unroll 1
  for (int row = begin; row < end; ++row) {
    typename Format::Sum sum{};
    int row_of_part = first_row + row;
    const SmallPart& part = part_of_row(linear, row_of_part);
    const float row_scale = Format::row_scale(part, row_of_part);
#pragma unroll 2
    for (int step = 0; step < steps; ++step) {
      await_copies<kDepth - 1>();
      const uint4 weights = load_shared16(flight + static_cast<unsigned>(slot * 512));
      Format::multiply(ready, min(step * 32 + lane, padded / kColumns - 1), weights, row_scale, sum);
      copy();
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum.join(offset);
    if (lane == 0) sums[row] = sum;
  }
  await_copies<0>();
  __syncthreads();
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows; i += kTokenThreads) {
    int row = first_row + i;
    const SmallPart& part = part_of_row(linear, row);
    const float value = Format::value(part, ready, sums[i], row);
    if (linear.residual)
      linear.residual[row] = (i < kTokenThreads ? before : linear.residual[row]) + value;
    else
      static_cast<typename Format::Type*>(part.y)[row] = from_float<typename Format::Type>(value);
  }
}

struct Plan {
  std::int64_t blocks, rows, more, bytes;
};
template <class Format>
Plan plan_of(const SmallProblem& linear, const HalfInputs& inputs) {
  std::int64_t all = 0;
  for (int i = 0; i < linear.part_count; ++i) all += linear.parts[i].out;
  Plan plan{};
  plan.blocks = std::min<std::int64_t>(all, linear.multiprocessors);
  plan.rows = all / plan.blocks;
  plan.more = all % plan.blocks;
  plan.bytes = flight_bytes(Format::kDepth) + sums_bytes<typename Format::Sum>(plan.rows) +
               inputs.padded * 2 + inputs.padded * Format::kExtraEighths / 8;
  return plan;
}

template <typename F>
void with_format(WeightForm form, DType type, F f) {
  const auto typed = [&](auto tag) {
    using T = typename decltype(tag)::Type;
    form == WeightForm::kInt8 ? f(TypeTag<Int8<T>>{}) : f(TypeTag<Dense<T>>{});
  };
  type == DType::kF16 ? typed(TypeTag<__half>{}) : typed(TypeTag<__nv_bfloat16>{});
}

}  // namespace

bool takes_one_token_rows(const SmallProblem& linear, const HalfInputs& inputs, WeightForm form,
                          int capability, int shared_bytes) {
  bool takes = capability >= 80 && takes_staging(inputs, kMostColumns);
  if (!takes) return false;
  with_format(form, inputs.compute, [&](auto tag) {
    using Format = typename decltype(tag)::Type;
    takes = plan_of<Format>(linear, inputs).bytes <= std::min(kMostShared, shared_bytes);
  });
  return takes;
}

void launch_one_token_rows(const SmallProblem& linear, const HalfInputs& inputs, WeightForm form,
                           float threshold, cudaStream_t stream) {
  with_format(form, inputs.compute, [&](auto tag) {
    using Format = typename decltype(tag)::Type;
    const Plan plan = plan_of<Format>(linear, inputs);
    const Problem problem{linear, inputs, threshold, static_cast<int>(plan.rows),
                          static_cast<int>(plan.more)};
    with_staging(inputs, [&](auto staging) {
      auto* kernel = rows_kernel<Format, decltype(staging)::value>;
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared),
            "asking for shared memory");
      launch(kernel, {dim3(static_cast<unsigned>(plan.blocks)), kTokenThreads, plan.bytes}, stream,
             "a product with one token", problem);
    });
  });
}

}  // namespace qtool::cuda
