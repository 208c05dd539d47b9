// Does a written checkpoint hold what was meant? Reads it back as any reader would and compares it with its
// source.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/plan.h"
#include "formats/checkpoint.h"
#include "formats/quantize_checkpoint.h"

namespace qtool {

struct Verification {
  std::vector<std::string> problems;  // sentences; none when all is well
  std::vector<TensorError> errors;    // of quantized tensors in the plan's order, over all values
};

// Compares the checkpoint in `folder` with the `plan` (names, types, shapes, no tensor too few or too many)
// and with `source`, value by value: kept tensors must be equal to the last bit; quantized values must lie
// within half the widest gap between codes of what they stand for (plus what nested statistics and rounding
// add), and nothing may be NaN or infinite. Errors: those of reading; kMemory, kInterrupted.
Verification verify_checkpoint(const Checkpoint& source, const Plan& plan, const std::string& folder,
                               const StreamOptions& options);

}  // namespace qtool
