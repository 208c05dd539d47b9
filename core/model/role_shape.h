// How large the weight of a role is in a given model: the one formula for loading, checking and making up
// weights.
#pragma once

#include "core/model/roles.h"
#include "core/model/spec.h"
#include "core/tensor.h"

namespace qtool {

// Logical shape; for a linear layer [out, in]. Errors: kInternal for Role::kIgnored, which no model reads.
Shape role_shape(const ModelSpec& spec, Role role);

}  // namespace qtool
