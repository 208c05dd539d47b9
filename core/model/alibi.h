// ALiBi: attention scores that fall with the distance between two tokens, each head at a slope of its own, in
// place of positions (Press, Smith, Lewis, "Train short, test long", 2022).
#pragma once

#include <vector>

#include "core/model/spec.h"

namespace qtool {

// Slopes [heads], float32 arithmetic as transformers 5 does it (modeling_bloom, modeling_mpt,
// modeling_falcon). The paper defines them for powers of two; how the other numbers of heads are filled up is
// where the kinds differ. `spec.alibi` is not kNone.
std::vector<float> alibi_slopes(const ModelSpec& spec);

}  // namespace qtool
