// Operations on activations one element, or one row, at a time. All run on
// `stream`, in order.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/model/spec.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// out[i] = table[ids[i]] in float32. ids is device memory, checked by the
// caller.
void embed(Values table, std::int64_t cols, const std::int32_t* ids, std::int64_t rows, float* out,
           cudaStream_t stream);

// out = x / sqrt(mean(x^2) + eps) * weight; x is float32, the mean is summed in
// float32.
void rms_norm(const float* x, Values weight, float eps, std::int64_t rows, std::int64_t cols, Values out,
              cudaStream_t stream);

// gate = act(gate) * up; both of gate's type.
void gate(Values gate, Values up, Activation activation, std::int64_t count, cudaStream_t stream);

// x += y
void add(float* x, Values y, std::int64_t count, cudaStream_t stream);

// out[i] = x[rows[i]], float32; rows is device memory.
void gather(const float* x, const std::int64_t* rows, std::int64_t count, std::int64_t cols, float* out,
            cudaStream_t stream);

// out = in, converted by rounding to nearest even.
void convert(Values in, std::int64_t count, Values out, cudaStream_t stream);

// x[r][c] = round(x[r][c] + bias[c]) for float values x
void add_bias(Values x, const float* bias, std::int64_t rows, std::int64_t cols, cudaStream_t stream);

// out[r] = column of the largest value of row r, the first of equals.
void argmax(Values x, std::int64_t rows, std::int64_t cols, std::int32_t* out, cudaStream_t stream);

// 16-bit inputs of a product with 4-bit tiles: x rounded to `compute`, then
// scaled by a power of two per token so that half precision holds it: out
// [rows, padded] with zeros beyond cols, scales [rows] undo it. bfloat16 values
// keep all their bits down to 2^-29 of the token's largest.
enum class Source : std::uint8_t { kValues, kNorm, kGated };
struct HalfInputs {
  Source source = Source::kValues;
  Values x;          // [rows, cols]; kNorm: float32
  Values weight;     // kNorm: [cols]
  float eps = 0.0f;  // kNorm
  Values up;         // kGated: [rows, cols] of x's type
  Activation activation = Activation::kSilu;
  DType compute = DType::kBF16;
  std::int64_t rows = 0, cols = 0, padded = 0;
  void* out = nullptr;      // half [rows, padded]
  float* scales = nullptr;  // [rows]
};
void half_inputs(const HalfInputs& problem, cudaStream_t stream);

}  // namespace qtool::cuda
