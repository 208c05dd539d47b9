// A checkpoint's tensors as the model sees them: a quantized weight and its statistics are one.
//
// Unlike formats/weights_io this never refuses: what is missing or contradicts is written down, so that
// `inspect` can show a damaged checkpoint whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/quant/spec.h"
#include "core/tensor.h"
#include "formats/checkpoint.h"

namespace qtool {

struct LogicalTensor {
  std::string name;                // of the stored tensor that holds the values: "...up_proj.weight"
  std::string module;              // `name` without ".weight"
  std::optional<QuantSpec> quant;  // how it is stored; nothing for plain values
  DType dtype = DType::kF32;  // of the values; before they were quantized, where they are (F16 for LLM.int8)
  Shape shape;                // logical; that of the packed bytes where quant_state cannot be read
  std::int64_t bytes = 0;     // of all pieces
  std::vector<std::string> pieces;   // stored names, `name` first
  std::vector<std::string> faults;   // what makes it unreadable: missing pieces, contradictions
  std::vector<std::string> remarks;  // what some loaders stumble over

  std::int64_t count() const { return count_of(shape); }
  std::string form() const;  // "nf4-dq", "int8", "BF16": how people read the way it is stored
};

// In the natural order of names. Reads only quant_states of the tensors' data.
std::vector<LogicalTensor> logical_tensors(const Checkpoint& checkpoint);

std::string text_of(const Shape& shape);  // "[704, 256]"

}  // namespace qtool
