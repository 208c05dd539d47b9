// Models for measuring: known shapes with random weights, without a file.
#pragma once

#include <memory>
#include <string>

#include "core/model/spec.h"
#include "core/model/weight_source.h"
#include "core/quant/spec.h"

namespace qtool {

// "llama-2-7b", "llama-3.1-8b", ... Errors: kUsage, naming the known ones.
ModelSpec shape_named(const std::string& name);

// Weights of the shapes that `spec` asks for: linear layers in the form of
// `quant` (the head dense, as bitsandbytes leaves it), values small enough that
// activations stay finite. The same few random bytes over and over: what is
// measured does not depend on them, and making billions would take longer than
// measuring.
std::unique_ptr<WeightSource> random_weights(const ModelSpec& spec, const QuantSpec& quant);

// One such weight.
Weight random_weight(const Shape& shape, DType dtype, const QuantSpec& quant);

}  // namespace qtool
