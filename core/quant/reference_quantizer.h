// The Quantizer made of the reference functions: right in every bit, in no hurry.
#pragma once

#include <cstdint>
#include <span>

#include "core/quant/quantizer.h"

namespace qtool {

// Whether the spans have the sizes that Quantizer documents and the type can be quantized; every
// implementation calls these first. Errors: kUnsupported for the type, kInternal for a size (the caller's
// bug).
void check_block4(const TensorView& values, int block_size, std::span<const std::uint8_t> packed,
                  std::span<const float> absmax);
void check_nest(std::span<const float> absmax, std::span<const std::uint8_t> codes,
                std::span<const float> nested_absmax);
void check_int8_rows(const TensorView& values, std::span<const std::int8_t> codes,
                     std::span<const float> row_absmax);

class ReferenceQuantizer : public Quantizer {
 public:
  void block4(const TensorView& values, Code4 code, int block_size, std::span<std::uint8_t> packed,
              std::span<float> absmax) const override;
  float nest(std::span<const float> absmax, std::span<std::uint8_t> codes,
             std::span<float> nested_absmax) const override;
  void int8_rows(const TensorView& values, std::span<std::int8_t> codes,
                 std::span<float> row_absmax) const override;
};

}  // namespace qtool
