// Operations on activations one element at a time, and the inputs of 4-bit products. All run
// on `stream`, in order.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/model/spec.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// gate = act(gate) * up, both of gate's type; act(gate) where up has no data.
void gate(Values gate, Values up, Activation activation, std::int64_t count, cudaStream_t stream);

// x += scale * y
void add(float* x, Values y, float scale, std::int64_t count, cudaStream_t stream);

// x * number; x within [-number, number]; number * tanh(x / number)
enum class Change : std::uint8_t { kScale, kClamp, kSoftcap };
void change(Values x, Change how, float number, std::int64_t count, cudaStream_t stream);

// out = in, converted by rounding to nearest even.
void convert(Values in, std::int64_t count, Values out, cudaStream_t stream);

// x[r][c] = round(x[r][c] + bias[c]) for float values x
void add_bias(Values x, const float* bias, std::int64_t rows, std::int64_t cols, cudaStream_t stream);

// 16-bit inputs of a product with 4-bit tiles: x rounded to `compute`, then
// scaled by a power of two per token so that half precision holds it: out
// [rows, padded] with zeros beyond cols, scales [rows] undo it. bfloat16 values
// keep all their bits down to 2^-29 of the token's largest.
enum class Source : std::uint8_t { kValues, kNorm, kGated };
struct HalfInputs {
  Source source = Source::kValues;
  Values x;          // [rows, cols]; kNorm: float32
  Values weight;     // kNorm, which is NormKind::kRms without a bias: [cols]
  float eps = 0.0f;  // kNorm
  Values up;         // kGated: [rows, cols] of x's type
  Activation activation = Activation::kSilu;
  DType compute = DType::kBF16;
  std::int64_t rows = 0, cols = 0, padded = 0;
  void* out = nullptr;         // half [rows, padded]
  float* scales = nullptr;     // [rows]
  float weight_offset = 0.0f;  // kNorm: what is added to `weight`
  // More than 0: `out` lies as wgmma reads it, [padded / 64][wide_tokens][128 bytes], the 64 columns of a row
  // in the order in which tiles hold weights, their 16-byte pieces exchanged as operand_at() says.
  std::int64_t wide_tokens = 0;
};
void half_inputs(const HalfInputs& problem, cudaStream_t stream);

}  // namespace qtool::cuda
