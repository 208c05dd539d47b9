// config.json's rotary embedding in all its spellings -> RopeSpec.
#pragma once

#include <cstdint>

#include "core/model/spec.h"
#include "formats/config_reader.h"
#include "formats/json.h"

namespace qtool {

// How a family spells and completes its rotary embedding. The base that an absent key means is that of the
// row's model.
struct RopeKeys {
  ConfigKey theta = {"rope_theta"};
  ConfigKey fraction = {"partial_rotary_factor"};  // of a head's dimensions that rotates
  double default_fraction = 1.0;
  bool partial = false;                 // a fraction below 1 is honoured
  bool only_longrope = false;           // Phi-3: every scaling ("su", "yarn") is longrope
  std::int64_t original_positions = 0;  // Phi-3: class default of original_max_position_embeddings
};

// Reads rope_parameters (transformers 5) or rope_scaling and rope_theta (4), and completes them as
// transformers does. The factor of yarn and longrope that is not given is max_positions /
// original_max_positions. `spec` gives head_dim, max_positions and rope.theta, the default base.
// Errors: kMalformed for values out of range; kUnsupported for an unknown type, for parameters that differ by
// layer, for a fraction that the family ignores, for longrope's short_mscale and long_mscale.
RopeSpec rope_spec_of(const ConfigReader& config, const RopeKeys& keys, const ModelSpec& spec);

// Of a family whose layers rotate in two ways: rope_parameters nested under "full_attention" and
// "sliding_attention". Older files scale the full ones alone by rope_scaling, with rope_theta; the base of
// the sliding ones is under `local_theta`, or `local_theta_default`. The global one goes to spec.rope, the
// other to spec.local_rope. Errors: as above; kUnsupported for rope_parameters that are not nested.
void read_ropes_by_layer_type(const ConfigReader& config, ConfigKey local_theta, double local_theta_default,
                              ModelSpec& spec);

}  // namespace qtool
