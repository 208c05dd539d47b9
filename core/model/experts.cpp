#include "core/model/experts.h"

#include <algorithm>
#include <cmath>

namespace qtool {
namespace {

void softmax(std::span<const float> logits, std::vector<float>& out) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  out.clear();
  float total = 0.0f;
  for (const float logit : logits) {
    out.push_back(std::exp(logit - highest));
    total += out.back();
  }
  for (float& value : out) value /= total;
}

// The `count` largest, largest first, the first of equals. Their number is small: one pass for each.
void choose_largest(std::span<const float> values, int count, std::vector<std::size_t>& chosen) {
  chosen.clear();
  for (int i = 0; i < count; ++i) {
    std::size_t best = values.size();
    for (std::size_t e = 0; e < values.size(); ++e)
      if (std::find(chosen.begin(), chosen.end(), e) == chosen.end() &&
          (best == values.size() || values[e] > values[best]))
        best = e;
    chosen.push_back(best);
  }
}

}  // namespace

void route(const ExpertSpec& spec, std::span<const float> logits, std::vector<ExpertTokens>& tokens) {
  const auto experts = static_cast<std::size_t>(spec.experts);
  tokens.resize(experts);
  for (ExpertTokens& expert : tokens) {
    expert.rows.clear();
    expert.weights.clear();
  }
  std::vector<float> probabilities;
  std::vector<std::size_t> chosen;
  for (std::size_t row = 0; row * experts < logits.size(); ++row) {
    softmax(logits.subspan(row * experts, experts), probabilities);
    choose_largest(probabilities, spec.chosen, chosen);
    float total = 0.0f;
    for (const std::size_t expert : chosen) total += probabilities[expert];
    for (const std::size_t expert : chosen) {
      tokens[expert].rows.push_back(static_cast<std::int64_t>(row));
      tokens[expert].weights.push_back(spec.normalized ? probabilities[expert] / total
                                                       : probabilities[expert]);
    }
  }
}

void share(std::span<const float> logits, ExpertTokens& tokens) {
  tokens.rows.clear();
  tokens.weights.clear();
  for (const float logit : logits) {
    tokens.rows.push_back(static_cast<std::int64_t>(tokens.rows.size()));
    tokens.weights.push_back(1.0f / (1.0f + std::exp(-logit)));
  }
}

}  // namespace qtool
