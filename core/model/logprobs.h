// Logits -> log-probabilities of tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/error.h"

namespace qtool {

struct TokenLogprob {
  std::int32_t token = 0;
  double logprob = 0.0;
};

// What the model thought of one token: its own log-probability and the likeliest alternatives (itself
// included), best first; equals by lower id.
struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

// What is wrong when a logit is NaN or +infinity: kMalformed.
Error non_finite_logits();

// log(sum(exp(logits))), summed in float64 in index order.
double log_sum_exp(std::span<const float> logits);

// The token with the largest logit; of equals the lowest id. Errors: non_finite_logits().
std::int32_t likeliest(std::span<const float> logits);

// Of the unprocessed `logits` [vocab]: the model's own distribution at temperature 1. `best` at most vocab.
Logprobs logprobs_of(std::span<const float> logits, std::int32_t chosen, std::int64_t best);

// Kullback-Leibler divergence, in nats, of what `logits` say from what `reference` says (both [vocab]): the
// sum of p_reference * (log p_reference - log p). 0 when they agree.
double kl_divergence(std::span<const float> reference, std::span<const float> logits);

}  // namespace qtool
