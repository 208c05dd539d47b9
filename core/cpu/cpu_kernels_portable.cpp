// The kernels in plain C++: the truth that the others are compared with.
#include <algorithm>

#include "core/cpu/kernel_functions.h"
#include "core/float16.h"
#include "core/quant/flush.h"
#include "core/quant/spec.h"

namespace qtool::cpu {

namespace {

float rounded(float value, DType dtype) {
  if (dtype == DType::kBF16) return round_to_bf16(value);
  if (dtype == DType::kF16) return round_to_f16(value);
  return value;
}

void round(float* values, std::int64_t count, DType dtype) {
  if (dtype == DType::kF32) return;
  for (std::int64_t i = 0; i < count; ++i) values[i] = rounded(values[i], dtype);
}

void widen(const std::byte* in, DType from, std::int64_t count, float* out) {
  if (from == DType::kF32) {
    std::copy_n(reinterpret_cast<const float*>(in), count, out);
    return;
  }
  const auto* halves = reinterpret_cast<const std::uint16_t*>(in);
  if (from == DType::kBF16)
    for (std::int64_t i = 0; i < count; ++i) out[i] = float_from_bf16(halves[i]);
  else
    for (std::int64_t i = 0; i < count; ++i) out[i] = float_from_f16(halves[i]);
}

float scale_of(const Block4Rows& weight, std::int64_t block) {
  if (weight.absmax) return weight.absmax[block];
  return flushed_product(weight.nested_map[weight.absmax_codes[block]],
                         weight.nested_absmax[block / kNestedBlockSize]) +
         weight.nested_offset;
}

void decode4(const Block4Rows& weight, std::int64_t first, std::int64_t count, float* out) {
  const std::int64_t end = first + count;
  std::int64_t i = first;
  while (i < end) {
    const std::int64_t block = i / weight.block_size;
    const std::int64_t block_end = std::min(end, (block + 1) * weight.block_size);
    const float scale = scale_of(weight, block);
    float values[16];
    for (int code = 0; code < 16; ++code)
      values[code] = rounded(flushed_product(weight.lut[code], scale), weight.compute);
    for (; i < block_end; ++i) {
      const std::uint8_t pair = weight.packed[i / 2];
      out[i - first] = values[i % 2 == 0 ? pair >> 4 : pair & 15];
    }
  }
}

void dot(const float* w, const float* x, std::int64_t x_stride, int tokens, std::int64_t count, float* sums) {
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * x_stride;
    // Eight partial sums: fewer roundings in a row, and the compiler may use vectors.
    float partial[8] = {};
    std::int64_t k = 0;
    for (; k + 8 <= count; k += 8)
      for (int lane = 0; lane < 8; ++lane) partial[lane] += w[k + lane] * row[k + lane];
    for (; k < count; ++k) partial[k % 8] += w[k] * row[k];
    sums[t] += ((partial[0] + partial[4]) + (partial[2] + partial[6])) +
               ((partial[1] + partial[5]) + (partial[3] + partial[7]));
  }
}

constexpr int kLanes = 8;

void multiply(const float* w, int rows, const float* x, std::int64_t x_stride, std::int64_t groups,
              std::int64_t count, float* sums, std::int64_t sums_stride) {
  for (std::int64_t g = 0; g < groups; ++g) {
    for (int r = 0; r < rows; ++r) {
      float partial[kLanes] = {};
      for (std::int64_t k = 0; k < count; ++k)
        for (int lane = 0; lane < kLanes; ++lane)
          partial[lane] += w[r * kTileDepth + k] * x[g * x_stride + k * kLanes + lane];
      for (int lane = 0; lane < kLanes; ++lane) sums[r * sums_stride + g * kLanes + lane] += partial[lane];
    }
  }
}

void dot8(const std::int8_t* w, std::int64_t rows, const std::int8_t* x, std::int64_t tokens,
          std::int64_t count, std::int32_t* sums, std::int64_t sums_stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < count; ++k) sum += std::int32_t{w[r * count + k]} * x[t * count + k];
      sums[t * sums_stride + r] = sum;
    }
  }
}

void scores(const float* queries, int query_count, const float* keys, int positions, int dim, float scale,
            float* out, int out_stride) {
  for (int q = 0; q < query_count; ++q) {
    for (int p = 0; p < positions; ++p) {
      float sum = 0.0f;
      dot(queries + std::int64_t{q} * dim, keys + std::int64_t{p} * dim, dim, 1, dim, &sum);
      out[std::int64_t{q} * out_stride + p] = scale * sum;
    }
  }
}

void weighted_sum(const float* weights, int weights_stride, int query_count, const float* values,
                  int positions, int dim, float* out) {
  for (int q = 0; q < query_count; ++q)
    for (int p = 0; p < positions; ++p)
      for (int d = 0; d < dim; ++d)
        out[std::int64_t{q} * dim + d] +=
            weights[std::int64_t{q} * weights_stride + p] * values[std::int64_t{p} * dim + d];
}

}  // namespace

const KernelFunctions kPortableFunctions = {
    .round = round,
    .widen = widen,
    .decode4 = decode4,
    .dot = dot,
    .lanes = kLanes,
    .multiply = multiply,
    .direct4 = {nullptr, nullptr},
    .dot8 = dot8,
    .scores = scores,
    .weighted_sum = weighted_sum,
};

}  // namespace qtool::cpu
