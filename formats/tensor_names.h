// Which name a tensor has in a file. Families' rows give the names that transformers writes today; files in
// the wild also drop the model's prefix ("h.0.ln_1.weight" for "transformer.h.0.ln_1.weight") or, around a
// language model inside a multimodal one, add another ("language_model.model.layers..."; today
// "model.language_model.layers..."). Both are understood here and nowhere else.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/model/roles.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"

namespace qtool {

// Module `name` of a file (no ".weight") as transformers writes it: "transformer.h.0.ln_1" for "h.0.ln_1".
// Nothing for one that the architecture does not have.
std::optional<std::string> canonical_module(const Architecture& architecture, std::string_view name);

// The module of a role as the checkpoint spells it, if it has a weight or a bias; else the usual name. `part`
// is the expert's or head's number. Errors: kMalformed if the checkpoint has it under two names.
std::string stored_module(const Checkpoint& checkpoint, const Architecture& architecture, Role role,
                          int layer, int part = -1);

// Do single heads (QkNorm::kEachHead) have tensors of their own in this family's files?
bool stored_by_head(const Architecture& architecture, Role role);

}  // namespace qtool
