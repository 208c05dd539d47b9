// LLM.int8 as bitsandbytes computes it on CUDA (Linear8bitLt without fp16 weights), step by step:
//
//   A      x in half precision; an element with |A| >= threshold is an outlier, and so is its whole column
//   SCA    per token, the largest |A| that is not an outlier (columns of outliers included)
//   CA     rint(A * RN(127 / SCA)), 0 in outlier columns; 127 / SCA by the GPU's approximate reciprocal
//   acc    CA * codes, exact in int32
//   out    half(fma(RN(RN(acc * SCA) * row_absmax), 1/16129, bias)), then the type of x
//   out   += x[:, outliers] * RN_x(codes * row_absmax / 127)[:, outliers]
//
// Everything but the last line is reproduced bit for bit. The last is one more matrix product whose order of
// summation bitsandbytes leaves to cuBLAS; here it is summed in float32 and rounded once with the rest. A
// bias that is not half precision is added after the rounding to half, and rounded again.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <omp.h>
#include <vector>

#include "core/convert.h"
#include "core/cpu/linear.h"
#include "core/float16.h"
#include "core/quant/reciprocal.h"

namespace qtool::cpu {

namespace {

constexpr std::int64_t kOutlierDepth = 512;  // outlier columns whose weights are widened at a time
const float kDequant = std::bit_cast<float>(0x38820610u);  // bitsandbytes' 6.200012e-05, 1 / 127^2
const float kPerCode = std::bit_cast<float>(0x3c010204u);  // 1 / 127

// Quantizes one token: returns SCA. `half` holds A; elements of outlier columns become 0 afterwards, by the
// caller.
float quantize_token(const float* half, std::int64_t in, float threshold, std::int8_t* codes) {
  float absmax = 0.0f;
  for (std::int64_t k = 0; k < in; ++k) {
    const float magnitude = std::fabs(half[k]);
    if (magnitude > absmax && (threshold <= 0.0f || magnitude < threshold)) absmax = magnitude;
  }
  const float scale = 127.0f * approximate_reciprocal(absmax);
  for (std::int64_t k = 0; k < in; ++k) {
    const float scaled = half[k] * scale;
    const bool counts = scaled == scaled && (threshold <= 0.0f || std::fabs(half[k]) < threshold);
    codes[k] = counts ? static_cast<std::int8_t>(std::lrint(scaled)) : std::int8_t{0};
  }
  return absmax;
}

// Columns in which any token has an outlier, ascending.
std::vector<std::int64_t> outlier_columns_of(const float* half, std::int64_t tokens, std::int64_t in,
                                             float threshold) {
  std::vector<std::int64_t> columns;
  if (threshold <= 0.0f) return columns;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t k = 0; k < in; ++k)
      if (std::fabs(half[t * in + k]) >= threshold) columns.push_back(k);
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  return columns;
}

// The integer product's float value, in the layer's type.
float to_output(float scaled, bool has_bias, float bias, DType compute) {
  const bool fused = has_bias && compute == DType::kF16;
  float value = round_to_f16(std::fma(scaled, kDequant, fused ? bias : 0.0f));
  if (has_bias && !fused) value = round_to_f16(value + bias);
  return compute == DType::kBF16 ? round_to_bf16(value) : value;
}

// out[t][r] = RN(out[t][r] + sum over outlier columns of x * weight in the layer's type), for one row r.
//   x [tokens, columns.size()]; codes [in] of the row; out points to the row's element of the first token
void add_outliers(const KernelFunctions& kernels, const CpuLinear& layer, const std::int8_t* codes,
                  float row_absmax, const std::vector<std::int64_t>& columns, const float* x,
                  std::int64_t tokens, float* out) {
  const auto outliers = static_cast<std::int64_t>(columns.size());
  std::array<float, kOutlierDepth> values;
  for (std::int64_t t = 0; t < tokens; t += kDirectTokens) {
    const int count = static_cast<int>(std::min<std::int64_t>(kDirectTokens, tokens - t));
    std::array<float, kDirectTokens> sums{};
    for (std::int64_t first = 0; first < outliers; first += kOutlierDepth) {
      const std::int64_t depth = std::min(kOutlierDepth, outliers - first);
      for (std::int64_t j = 0; j < depth; ++j) {
        const float code = codes[columns[static_cast<std::size_t>(first + j)]];
        values[static_cast<std::size_t>(j)] = code * row_absmax * kPerCode;
      }
      kernels.round(values.data(), depth, layer.compute);
      kernels.dot(values.data(), x + t * outliers + first, outliers, count, depth, sums.data());
    }
    for (int i = 0; i < count; ++i) {
      float& value = out[(t + i) * layer.out];
      value += sums[static_cast<std::size_t>(i)];
      kernels.round(&value, 1, layer.compute);
    }
  }
}

}  // namespace

void LinearRunner::run_int8(const CpuLinear& layer, const Int8Weight& weight, const float* x,
                            std::int64_t tokens, float* out) {
  const KernelFunctions& kernels = kernels_;
  const std::int64_t in = layer.in;
  const auto weight_codes = weight.codes.as<std::int8_t>();
  const auto row_absmax = weight.row_absmax.as<float>();

  // x in the layer's type, and in half precision behind it.
  float* typed = inputs_.get<float>(2 * tokens * in);
  float* half = typed + tokens * in;
#pragma omp parallel for num_threads(threads_) if (tokens > kDirectTokens)
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::copy_n(x + t * in, in, typed + t * in);
    kernels.round(typed + t * in, in, layer.compute);
    std::copy_n(typed + t * in, in, half + t * in);
    kernels.round(half + t * in, in, DType::kF16);
  }

  const std::vector<std::int64_t> columns = outlier_columns_of(half, tokens, in, weight.threshold);
  const auto outliers = static_cast<std::int64_t>(columns.size());
  if (isolated_ && tokens > 1 && outliers > 0) {  // each token's outliers are its own
    for (std::int64_t t = 0; t < tokens; ++t) run_int8(layer, weight, x + t * in, 1, out + t * layer.out);
    return;
  }
  // Token absmax, outlier inputs [tokens, outliers], then codes [tokens, in].
  float* absmax = packed_.get<float>(tokens * (1 + outliers) + (tokens * in + 3) / 4);
  float* outlier_x = absmax + tokens;
  auto* codes = reinterpret_cast<std::int8_t*>(outlier_x + tokens * outliers);
#pragma omp parallel for num_threads(threads_) if (tokens > kDirectTokens)
  for (std::int64_t t = 0; t < tokens; ++t) {
    absmax[t] = quantize_token(half + t * in, in, weight.threshold, codes + t * in);
    for (std::int64_t j = 0; j < outliers; ++j) {
      const std::int64_t column = columns[static_cast<std::size_t>(j)];
      codes[t * in + column] = 0;
      outlier_x[t * outliers + j] = typed[t * in + column];
    }
  }

  const std::int64_t tasks = (layer.out + kRowsPerTask - 1) / kRowsPerTask;
  const std::int64_t pass = std::min(tokens, kTokensPerPass);
  auto* sums_of_threads = threads_scratch_.get<std::int32_t>(threads_ * pass * kRowsPerTask);
#pragma omp parallel for num_threads(threads_) schedule(dynamic) if (layer.out * in * tokens > kSerialBelow)
  for (std::int64_t task = 0; task < tasks; ++task) {
    std::int32_t* sums = sums_of_threads + omp_get_thread_num() * pass * kRowsPerTask;
    const std::int64_t begin = task * kRowsPerTask;
    const std::int64_t rows = std::min(kRowsPerTask, layer.out - begin);

    std::array<float, kRowsPerTask> bias{};
    if (layer.bias) {
      const DType dtype = layer.bias->dtype();
      to_float32(layer.bias->data() + begin * size_of(dtype), dtype, rows, bias.data());
      kernels.round(bias.data(), rows, layer.compute);
    }
    for (std::int64_t first = 0; first < tokens; first += pass) {
      const std::int64_t count = std::min(pass, tokens - first);
      kernels.dot8(weight_codes.data() + begin * in, rows, codes + first * in, count, in, sums, kRowsPerTask);
      for (std::int64_t t = 0; t < count; ++t) {
        float* to = out + (first + t) * layer.out + begin;
        for (std::int64_t r = 0; r < rows; ++r) {
          const float scaled = static_cast<float>(sums[t * kRowsPerTask + r]) * absmax[first + t];
          to[r] = to_output(scaled * row_absmax[static_cast<std::size_t>(begin + r)], layer.bias.has_value(),
                            bias[static_cast<std::size_t>(r)], layer.compute);
        }
      }
    }
    for (std::int64_t r = begin; outliers > 0 && r < begin + rows; ++r)
      add_outliers(kernels, layer, weight_codes.data() + r * in, row_absmax[static_cast<std::size_t>(r)],
                   columns, outlier_x, tokens, out + r);
  }
}

}  // namespace qtool::cpu
