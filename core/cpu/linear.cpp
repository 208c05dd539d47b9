#include "core/cpu/linear.h"

#include <algorithm>
#include <array>
#include <omp.h>

#include "core/convert.h"
#include "core/float16.h"
#include "core/quant/codebook.h"

namespace qtool::cpu {

namespace {

constexpr std::int64_t kDecodeDepth = 1024;  // columns of one row decoded at a time: 4 KB

std::int64_t groups_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

const Direct4Functions* direct4_for(const KernelFunctions& kernels, const Block4Rows& weight,
                                    std::int64_t tokens) {
  for (const Direct4Functions* direct : kernels.direct4)
    if (direct && direct->takes(weight) && direct->least_tokens <= tokens && tokens <= direct->most_tokens)
      return direct;
  return nullptr;
}

// Adds the bias to rows [begin, end) of all tokens' results and rounds them.
void finish(const KernelFunctions& kernels, const CpuLinear& layer, std::int64_t begin, std::int64_t end,
            std::int64_t tokens, float* out) {
  std::array<float, kRowsPerTask> bias;
  const std::int64_t count = end - begin;
  if (layer.bias) {
    const DType dtype = layer.bias->dtype();
    to_float32(layer.bias->data() + begin * size_of(dtype), dtype, count, bias.data());
    kernels.round(bias.data(), count, layer.compute);
  }
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* row = out + t * layer.out + begin;
    if (layer.bias)
      for (std::int64_t r = 0; r < count; ++r) row[r] += bias[static_cast<std::size_t>(r)];
    kernels.round(row, count, layer.compute);
  }
}

}  // namespace

Block4Rows rows_of(const Block4Weight& weight, DType compute) {
  Block4Rows rows;
  rows.out = weight.shape[0];
  rows.in = weight.shape[1];
  rows.block_size = weight.block_size;
  rows.packed = weight.packed.as<std::uint8_t>().data();
  if (weight.nested()) {
    rows.absmax_codes = weight.absmax.as<std::uint8_t>().data();
    rows.nested_absmax = weight.nested_absmax.as<float>().data();
    rows.nested_map = weight.nested_quant_map.as<float>().data();
    rows.nested_offset = weight.nested_offset;
  } else {
    rows.absmax = weight.absmax.as<float>().data();
  }
  for (int code = 0; code < 16; ++code) rows.lut[code] = decoded(codebook(weight.code), code);
  rows.compute = compute;
  return rows;
}

// Decoded rows, whatever the weight: 4-bit blocks or values of a float type.
struct LinearRunner::Rows {
  const Block4Rows* block4 = nullptr;
  TensorView dense;  // when block4 is null
  DType compute;
  std::int64_t in;

  // Columns [first, first + count) of row `row` as float32 values of type `compute`.
  void decode(const KernelFunctions& kernels, std::int64_t row, std::int64_t first, std::int64_t count,
              float* values) const {
    const std::int64_t index = row * in + first;
    if (block4) return kernels.decode4(*block4, index, count, values);
    kernels.widen(dense.data + index * size_of(dense.dtype), dense.dtype, count, values);
    if (dense.dtype != compute) kernels.round(values, count, compute);
  }
};

void LinearRunner::run(const CpuLinear& layer, const float* x, std::int64_t tokens, float* out) {
  if (tokens == 0) return;
  if (!layer.tied)
    if (const auto* int8 = std::get_if<Int8Weight>(&layer.weight))
      return run_int8(layer, *int8, x, tokens, out);

  Block4Rows block4;
  Rows rows{nullptr, {}, layer.compute, layer.in};
  if (layer.tied) {
    rows.dense = layer.tied->view();
  } else if (const auto* packed = std::get_if<Block4Weight>(&layer.weight)) {
    block4 = rows_of(*packed, layer.compute);
    rows.block4 = &block4;
  } else {
    rows.dense = std::get<DenseWeight>(layer.weight).values.view();
  }

  float* rounded = inputs_.get<float>(tokens * layer.in);
#pragma omp parallel for num_threads(threads_) if (tokens > kDirectTokens)
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::copy_n(x + t * layer.in, layer.in, rounded + t * layer.in);
    kernels_.round(rounded + t * layer.in, layer.in, layer.compute);
  }
  const std::int64_t company = isolated_ ? 1 : tokens;  // what the choice of the product goes by
  const Direct4Functions* direct = rows.block4 ? direct4_for(kernels_, *rows.block4, company) : nullptr;
  if (!direct && company > kDirectTokens) {
    for (std::int64_t first = 0; first < tokens; first += kTokensPerPass)
      run_tiled(layer, rows, rounded + first * layer.in, std::min(kTokensPerPass, tokens - first),
                out + first * layer.out);
    return;
  }
  const std::int64_t pass = direct ? direct->pass_tokens : kDirectTokens;
  for (std::int64_t first = 0; first < tokens; first += pass)
    run_direct(layer, rows, direct, rounded + first * layer.in, std::min(pass, tokens - first),
               out + first * layer.out);
}

void LinearRunner::run_direct(const CpuLinear& layer, const Rows& rows, const Direct4Functions* direct,
                              const float* x, std::int64_t tokens, float* out) {
  const KernelFunctions& kernels = kernels_;
  if (direct) {
    constexpr std::int64_t kPacked = 16;  // tokens that one thread packs
    float* packed = packed_.get<float>(tokens * layer.in);
#pragma omp parallel for num_threads(threads_) if (tokens > kPacked)
    for (std::int64_t t = 0; t < tokens; t += kPacked)
      direct->pack(*rows.block4, x, tokens, t, std::min(tokens, t + kPacked), packed);
    x = packed;
  }
  const std::int64_t tasks = groups_of(layer.out, kRowsPerTask);
#pragma omp parallel for num_threads(threads_) \
    schedule(guided) if (layer.out * layer.in * tokens > kSerialBelow)
  for (std::int64_t task = 0; task < tasks; ++task) {
    const std::int64_t begin = task * kRowsPerTask;
    const std::int64_t end = std::min(layer.out, begin + kRowsPerTask);
    if (direct) {
      direct->multiply(*rows.block4, begin, end, x, tokens, out, layer.out);
    } else {
      alignas(64) std::array<float, kDecodeDepth> scratch;
      for (std::int64_t r = begin; r < end; ++r) {
        std::array<float, kDirectTokens> sums{};
        for (std::int64_t k = 0; k < layer.in; k += kDecodeDepth) {
          const std::int64_t count = std::min(kDecodeDepth, layer.in - k);
          rows.decode(kernels, r, k, count, scratch.data());
          kernels.dot(scratch.data(), x + k, layer.in, static_cast<int>(tokens), count, sums.data());
        }
        for (std::int64_t t = 0; t < tokens; ++t) out[t * layer.out + r] = sums[static_cast<std::size_t>(t)];
      }
    }
    finish(kernels, layer, begin, end, tokens, out);
  }
}

// Tokens lie side by side in groups of `lanes`: packed[g][k][lane]. Per task: for every panel of kTileDepth
// columns, decode kTileRows rows into L1 and multiply them with all tokens; a group's panel stays in L2 for
// the whole task.
void LinearRunner::run_tiled(const CpuLinear& layer, const Rows& rows, const float* x, std::int64_t tokens,
                             float* out) {
  const KernelFunctions& kernels = kernels_;
  const std::int64_t lanes = kernels.lanes;
  const std::int64_t groups = groups_of(tokens, lanes);
  const std::int64_t group_stride = layer.in * lanes;
  float* packed = packed_.get<float>(groups * group_stride);
#pragma omp parallel for num_threads(threads_)
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const std::int64_t t = g * lanes + lane;
      float* to = packed + g * group_stride + lane;
      for (std::int64_t k = 0; k < layer.in; ++k) to[k * lanes] = t < tokens ? x[t * layer.in + k] : 0.0f;
    }
  }

  const std::int64_t sums_stride = groups * lanes;
  const std::int64_t scratch_floats = kTileRows * kTileDepth + kRowsPerTask * sums_stride;
  float* scratch = threads_scratch_.get<float>(threads_ * scratch_floats);
  const std::int64_t tasks = groups_of(layer.out, kRowsPerTask);
#pragma omp parallel for num_threads(threads_) \
    schedule(guided) if (layer.out * layer.in * tokens > kSerialBelow)
  for (std::int64_t task = 0; task < tasks; ++task) {
    float* tile = scratch + omp_get_thread_num() * scratch_floats;
    float* sums = tile + kTileRows * kTileDepth;
    const std::int64_t begin = task * kRowsPerTask;
    const std::int64_t end = std::min(layer.out, begin + kRowsPerTask);
    std::fill_n(sums, (end - begin) * sums_stride, 0.0f);
    for (std::int64_t k = 0; k < layer.in; k += kTileDepth) {
      const std::int64_t depth = std::min<std::int64_t>(kTileDepth, layer.in - k);
      for (std::int64_t first = begin; first < end; first += kTileRows) {
        const std::int64_t count = std::min<std::int64_t>(kTileRows, end - first);
        for (std::int64_t r = 0; r < count; ++r)
          rows.decode(kernels, first + r, k, depth, tile + r * kTileDepth);
        kernels.multiply(tile, static_cast<int>(count), packed + k * lanes, group_stride, groups, depth,
                         sums + (first - begin) * sums_stride, sums_stride);
      }
    }
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t r = begin; r < end; ++r) out[t * layer.out + r] = sums[(r - begin) * sums_stride + t];
    finish(kernels, layer, begin, end, tokens, out);
  }
}

}  // namespace qtool::cpu
