// Who turns values into codes. The CPU and the GPU implement it; both give the bytes of bitsandbytes on CUDA.
#pragma once

#include <cstdint>
#include <span>

#include "core/quant/spec.h"
#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool {

class Quantizer {
 public:
  virtual ~Quantizer() = default;

  // Quantizes consecutive values of a flattened matrix. A long matrix may come in pieces: each begins at a
  // block boundary and, but for the matrix' last piece, holds whole blocks. Thread-safe.
  //   values  F32, F16 or BF16, any shape
  //   packed  [ceil(n / 2)], element 2i in the high nibble
  //   absmax  [ceil(n / block_size)]
  virtual void block4(const TensorView& values, Code4 code, int block_size, std::span<std::uint8_t> packed,
                      std::span<float> absmax) const = 0;

  // Quantizes absmax itself: offset = mean(absmax); 8-bit codes of absmax - offset over blocks of 256.
  //   codes [n], nested_absmax [ceil(n / 256)]; returns the offset. Thread-safe.
  virtual float nest(std::span<const float> absmax, std::span<std::uint8_t> codes,
                     std::span<float> nested_absmax) const = 0;

  // Quantizes whole rows to LLM.int8.
  //   values F32, F16 or BF16 [rows, in]; codes [rows * in]; row_absmax [rows]. Thread-safe.
  virtual void int8_rows(const TensorView& values, std::span<std::int8_t> codes,
                         std::span<float> row_absmax) const = 0;
};

// A whole weight at once: `values` [out, in] under `spec` (kNone copies).
Weight quantize(const Quantizer& quantizer, const TensorView& values, const QuantSpec& spec);

// The values a weight stands for, rounded once to `dtype`, with bitsandbytes' arithmetic on CUDA.
Tensor dequantize(const Weight& weight, DType dtype);

}  // namespace qtool
