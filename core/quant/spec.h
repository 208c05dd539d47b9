// One resolved choice of quantization: what the options or a checkpoint's quantization_config mean.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/dtype.h"

namespace qtool {

enum class QuantMethod : std::uint8_t {
  kNone,    // 16- or 32-bit values as they are
  kBlock4,  // 4-bit codes, one absmax per block of consecutive values (NF4, FP4)
  kInt8,    // LLM.int8: 8-bit codes, one absmax per row, outlier columns of the input in 16 bits
};

enum class Code4 : std::uint8_t { kNf4, kFp4 };

inline constexpr std::array<int, 8> kBlockSizes4{32,  64,   128,  256,
                                                 512, 1024, 2048, 4096};  // what bitsandbytes takes
inline constexpr int kNestedBlockSize = 256;  // block size of the 8-bit quantization of absmax

struct QuantSpec {
  QuantMethod method = QuantMethod::kNone;
  Code4 code = Code4::kNf4;            // kBlock4
  int block_size = 64;                 // kBlock4: values per absmax
  bool nested = false;                 // kBlock4: absmax itself quantized to 8 bits ("double quantization")
  float int8_threshold = 6.0f;         // kInt8: |input| at or above it is an outlier; 0 switches outliers off
  DType compute_dtype = DType::kBF16;  // kBlock4: type of the product's operands
  DType storage = DType::kU8;          // kBlock4: dtype under which the packed bytes are filed
};

// "nf4", "nf4-dq", "fp4", "fp4-dq", "int8", or "none": how people and output folders name a scheme.
std::string scheme_name(const QuantSpec& spec);

// "nf4" / "fp4", as in quant_state and quantization_config.
std::string_view code_name(Code4 code);

}  // namespace qtool
