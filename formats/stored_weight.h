// In what form a checkpoint holds one weight: its pieces, found by name and checked against each other before
// any use is made of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/quant/spec.h"
#include "formats/checkpoint.h"

namespace qtool {

struct StoredWeight {
  QuantSpec spec;  // method kNone: values as they are; storage is the dtype of the stored codes
  Shape shape;     // logical: [out, in] of a quantized weight
  DType dtype =
      DType::kF16;  // of the values, or of those that were quantized; kInt8 always quantizes from F16
  float nested_offset = 0.0f;       // kBlock4, nested
  std::vector<std::string> pieces;  // suffixes behind the module's name, in the order of parts_of()
};

// Errors: kMalformed for missing or contradictory pieces, naming them; kUnsupported for forms that
// bitsandbytes does not read either.
StoredWeight stored_weight_of(const Checkpoint& checkpoint, const std::string& module);

// The module whose weight a statistic belongs to ("a.b" for "a.b.weight.absmax", "a.b.SCB"); nothing for
// other names.
std::optional<std::string> module_of_statistic(std::string_view name);

}  // namespace qtool
