// Architectures as rows: class name -> traits, config keys, tensor-name templates. Adding a family of known
// traits is one row here and its sample config in test/data.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/roles.h"
#include "core/model/spec.h"
#include "formats/checkpoint.h"
#include "formats/json.h"

namespace qtool {

class Architecture;  // one row

// The row for a config.json. Errors: kUnsupported, listing what is known; kMalformed.
const Architecture& architecture_of(const Json& config);

// The model a checkpoint holds, from config.json and generation_config.json (transformers 4 and 5 spellings),
// checked against the tensors' shapes. Errors: kMalformed, kUnsupported.
ModelSpec model_spec_of(const Checkpoint& checkpoint);

// From config.json alone, as `footprint` may have it.
ModelSpec model_spec_of(const Json& config);

// What tensor `name` is; nothing for a name that the architecture does not have.
std::optional<TensorRole> role_of(const Architecture& architecture, std::string_view name);

// The tensor name of a role, without ".weight": "model.layers.3.mlp.up_proj".
std::string module_name(const Architecture& architecture, Role role, int layer);

std::vector<std::string> known_architectures();

}  // namespace qtool
