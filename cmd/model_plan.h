// What the options of a command make of a checkpoint's tensors: the one way from a command line to a plan.
#pragma once

#include <cstdint>

#include "cmd/cli.h"
#include "core/model/plan.h"
#include "core/model/spec.h"
#include "formats/checkpoint.h"

namespace qtool {

// The plan of quantizing `checkpoint`, whose model is `spec`, by `quant`; `rest_dtype` is that of what stays
// unquantized. Of `scheme` the modules it names count. Errors: those of make_plan() and source_tensors().
Plan plan_for(const Checkpoint& checkpoint, const ModelSpec& spec, const QuantSpec& quant,
              const SchemeOptions& scheme, DType rest_dtype);

// Of a context longer than the model was made for: a warning where it can go on there. Errors: kUsage where
// it has learned its positions and has none beyond.
void check_context(std::int64_t context, const ModelSpec& spec);

}  // namespace qtool
