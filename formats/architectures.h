// Architectures: what a config.json and a tensor's name mean. The rows are in formats/families; adding a
// family of known traits is one row there and its sample in test/data/families.
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

// The row for a config.json; of a multimodal model whose language model takes text alone, that of the latter.
// Errors: kUnsupported, listing what is known; kMalformed.
const Architecture& architecture_of(const Json& config);

// The config.json of the language model: `config` itself, or a multimodal model's 'text_config' with what the
// whole says for all its parts (dtype, special tokens, a tied head) filled in. Errors: kMalformed.
Json language_config(const Json& config);

// The model a checkpoint holds, from config.json and generation_config.json (transformers 4 and 5 spellings),
// checked against the tensors' shapes. Errors: kMalformed, kUnsupported.
ModelSpec model_spec_of(const Checkpoint& checkpoint);

// From config.json alone, as `footprint` may have it.
ModelSpec model_spec_of(const Json& config);

// What tensor `name` is; nothing for a name that the architecture does not have. All spellings of
// formats/tensor_names.h are understood. Role::kIgnored: the name of a buffer that is computed anew, or of a
// part of a multimodal checkpoint that is no part of its language model.
std::optional<TensorRole> role_of(const Architecture& architecture, std::string_view name);

// Why a tensor of Role::kIgnored is, in words.
std::string_view why_ignored(std::string_view name);

// The usual name of a role's module, without ".weight": "model.layers.3.mlp.up_proj". `part` is the expert's
// or head's number.
std::string module_name(const Architecture& architecture, Role role, int layer, int part = -1);

// What bitsandbytes makes of the role's module. Roles the architecture does not have: kOther.
ModuleKind kind_of(const Architecture& architecture, Role role);

// Bytes of the buffers that transformers' model of this kind keeps in memory and counts in its
// get_memory_footprint(): rotary frequencies, causal masks, scales. Errors: kInternal for an unknown
// model_type.
std::int64_t transformers_buffer_bytes(const ModelSpec& spec);

std::vector<std::string> known_architectures();

}  // namespace qtool
