// config.json's rotary embedding in all its spellings -> RopeSpec.
#pragma once

#include <cstdint>

#include "core/model/spec.h"
#include "formats/json.h"

namespace qtool {

// Reads rope_parameters (transformers 5) or rope_scaling and rope_theta (4), and completes them as
// transformers does for its RopeSpec. The factor of yarn and longrope that is not given is max_positions /
// original_max_positions. Errors: kMalformed for values out of range, kUnsupported for an unknown type.
RopeSpec rope_spec_of(const Json& config, int head_dim, std::int64_t max_positions, double default_theta);

}  // namespace qtool
