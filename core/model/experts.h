// A mixture of experts: who takes which token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/spec.h"

namespace qtool {

// The tokens that one expert takes part in, and how much of its result counts.
struct ExpertTokens {
  std::vector<std::int64_t> rows;  // ascending
  std::vector<float> weights;      // one a row
};

// Fills `tokens` [experts] from the router's logits [rows, experts]: of softmax(logits) over all experts the
// `chosen` largest, the first of equals, scaled to a sum of 1 where the spec says so.
void route(const ExpertSpec& spec, std::span<const float> logits, std::vector<ExpertTokens>& tokens);

// What one expert's tokens are: all of `rows`, weighted by sigmoid(logits) [rows]: the shared expert.
void share(std::span<const float> logits, ExpertTokens& tokens);

}  // namespace qtool
