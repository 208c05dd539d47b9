// A linear layer's weight in memory: dense, LLM.int8 or 4-bit blocks, always in the pieces that a checkpoint
// stores.
//
// What is predicted is what is allocated is what is written: parts_of() is the one formula for the pieces of
// a quantized weight, and the structs below hold exactly these pieces, byte for byte as bitsandbytes files
// them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/quant/spec.h"
#include "core/tensor.h"

namespace qtool {

// Values as they are, in a floating-point type.
struct DenseWeight {
  Tensor values;  // [out, in]
};

// LLM.int8: values[r][c] ~ codes[r][c] * row_absmax[r] / 127.
struct Int8Weight {
  Tensor codes;       // I8 [out, in]
  Tensor row_absmax;  // F32 [out]; bitsandbytes' SCB
  float threshold = 6.0f;
};

// 4-bit codes over blocks of the flattened matrix: value[i] ~ codebook[code[i]] * absmax[i / block_size].
// Blocks run across rows; only the last can be partial.
struct Block4Weight {
  Shape shape;  // logical [out, in]
  Code4 code = Code4::kNf4;
  int block_size = 64;
  DType source_dtype = DType::kBF16;  // of the values when they were quantized; dequantization returns to it
  DType storage = DType::kU8;         // dtype under which `packed` is filed; the bytes are the same
  Tensor packed;                      // U8 [ceil(out*in / 2)], element 2i in the high nibble of byte i
  Tensor absmax;                      // F32 [blocks]; nested: U8 [blocks], codes of the dynamic map
  Tensor quant_map;                   // F32 [16], the codebook as filed
  Tensor nested_absmax;               // nested: F32 [ceil(blocks / 256)]; else empty
  Tensor nested_quant_map;            // nested: F32 [256], the dynamic map; else empty
  float nested_offset = 0.0f;         // nested: mean of absmax, subtracted before it was quantized
  Tensor quant_state;                 // U8 [bytes of the packed JSON]

  bool nested() const { return !nested_absmax.empty(); }
};

using Weight = std::variant<DenseWeight, Int8Weight, Block4Weight>;

Shape shape_of(const Weight& weight);         // logical [out, in]
std::int64_t bytes_of(const Weight& weight);  // of all its pieces: equal to the sum over parts_of()

// One stored piece of a weight. Its full name is the module's name + `suffix`.
struct Part {
  std::string suffix;  // ".weight", ".weight.absmax", ".SCB", ...
  DType dtype;
  Shape shape;

  std::int64_t bytes() const { return count_of(shape) * size_of(dtype); }
};

// The pieces of a weight of logical `shape` [out, in] under `spec`, in the order of a torch state_dict.
//   kNone   .weight in `source_dtype`
//   kInt8   .weight I8, .SCB F32, .weight_format U8 scalar
//   kBlock4 .weight, .weight.absmax, .weight.quant_map, [.weight.nested_absmax, .weight.nested_quant_map,]
//           .weight.quant_state.bitsandbytes__nf4
// `quant_state_bytes` is the length of the packed JSON: quant_state_json(...).size(), which depends on the
// digits of nested_offset; kTypicalOffsetDigits stands in for them where the values are not known yet. Throws
// Error(kUnsupported) for a storage type whose elements the packed bytes do not fill evenly.
std::vector<Part> parts_of(const Shape& shape, DType source_dtype, const QuantSpec& spec,
                           std::int64_t quant_state_bytes);

// The packed JSON of bitsandbytes' QuantState, exactly as Python's json.dumps prints it.
std::string quant_state_json(const Shape& shape, DType source_dtype, const QuantSpec& spec,
                             float nested_offset);

// Its length before nested_offset is known: most offsets print with this many characters, some with up to 4
// fewer or 3 more.
std::int64_t typical_quant_state_bytes(const Shape& shape, DType source_dtype, const QuantSpec& spec);

// The shortest decimal that reads back as the same double, spelled as Python's repr does: 0.1, 1e-05,
// 1e+16, 2.0.
std::string python_repr(double value);

}  // namespace qtool
