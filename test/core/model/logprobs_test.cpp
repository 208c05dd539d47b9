#include "core/model/logprobs.h"

#include <cmath>

#include "test/support/paths.h"

using namespace qtool;

TEST_CASE("log-probabilities sum to one and are sorted, equals by id") {
  const std::vector<float> logits{1.0f, 80.0f, -3.0f, 80.0f, 79.0f};
  const Logprobs found = logprobs_of(logits, 2, 99);
  REQUIRE(found.top.size() == 5);
  double sum = 0.0;
  for (const TokenLogprob& entry : found.top) sum += std::exp(entry.logprob);
  CHECK(sum == Approx(1.0));
  CHECK(found.top[0].token == 1);
  CHECK(found.top[1].token == 3);
  CHECK(found.top[2].token == 4);
  CHECK(found.chosen.token == 2);
  CHECK(found.chosen.logprob == Approx(-83.0 - std::log(2.0 + std::exp(-1.0))));
  CHECK(logprobs_of(logits, 0, 0).top.empty());
}

TEST_CASE("KL divergence is that of the two distributions") {
  const std::vector<float> p{std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const std::vector<float> q{std::log(0.25f) + 9, std::log(0.25f) + 9,
                             std::log(0.5f) + 9};  // a constant means nothing
  CHECK(kl_divergence(p, q) == Approx(0.5 * std::log(2.0) - 0.25 * std::log(2.0)).epsilon(1e-5));
  CHECK(kl_divergence(p, p) == Approx(0.0).margin(1e-9));
}
