// A checkpoint's tensors against the model that config.json describes.
#pragma once

#include "core/model/spec.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"

namespace qtool {

// Every weight and bias of such a model is there, in the right shape, and no weight or bias of the
// architecture is there that such a model does not have. Of a tied pair either name may be left out. Errors:
// kMalformed, naming the tensor; kUnsupported for what is quantized, but no linear layer.
void check_shapes(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec);

}  // namespace qtool
