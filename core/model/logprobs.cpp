#include "core/model/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace qtool {

Error non_finite_logits() {
  return {
      ExitCode::kMalformed,
      "the model's output is not finite (NaN or infinity): its weights are damaged, or values overflow in "
      "this compute type; try --compute-dtype float32"};
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

std::int32_t likeliest(std::span<const float> logits) {
  std::size_t best = logits.size();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity()) {
      best = logits.size();
      break;
    }
    if (best == logits.size() || logits[i] > logits[best]) best = i;
  }
  if (best == logits.size()) throw non_finite_logits();
  return static_cast<std::int32_t>(best);
}

Logprobs logprobs_of(std::span<const float> logits, std::int32_t chosen, std::int64_t best) {
  const double normalizer = log_sum_exp(logits);
  const auto at = [&](std::int32_t id) {
    return TokenLogprob{id, static_cast<double>(logits[static_cast<std::size_t>(id)]) - normalizer};
  };
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<std::ptrdiff_t>(best, static_cast<std::ptrdiff_t>(order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](std::int32_t a, std::int32_t b) {
    const float left = logits[static_cast<std::size_t>(a)], right = logits[static_cast<std::size_t>(b)];
    return left != right ? left > right : a < b;
  });
  Logprobs out;
  out.chosen = at(chosen);
  for (auto id = order.begin(); id != end; ++id) out.top.push_back(at(*id));
  return out;
}

double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  const double normalizer = log_sum_exp(reference);
  const double shift = normalizer - log_sum_exp(logits);
  double sum = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double difference = static_cast<double>(reference[i]) - static_cast<double>(logits[i]) - shift;
    sum += std::exp(static_cast<double>(reference[i]) - normalizer) * difference;
  }
  return std::max(sum, 0.0);  // rounding may leave equals a hair below
}

}  // namespace qtool
