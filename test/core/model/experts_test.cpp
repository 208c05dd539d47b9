// Routing of tokens to experts.
#include "core/model/experts.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

using namespace qtool;

namespace {

ExpertSpec four_experts(int chosen, bool normalized) {
  ExpertSpec spec;
  spec.experts = 4;
  spec.chosen = chosen;
  spec.normalized = normalized;
  return spec;
}

}  // namespace

TEST_CASE("each token goes to its most probable experts, with their probabilities") {
  const std::vector<float> logits{0.0f,           std::log(3.0f), 0.0f, std::log(5.0f),   // 1 3 1 5 of 10
                                  std::log(7.0f), 0.0f,           0.0f, std::log(1.0f)};  // 7 1 1 1 of 10
  std::vector<ExpertTokens> tokens;
  route(four_experts(2, false), logits, tokens);
  REQUIRE(tokens.size() == 4);
  CHECK(tokens[0].rows == std::vector<std::int64_t>{1});
  CHECK(tokens[1].rows == std::vector<std::int64_t>{0, 1});  // of equals the first
  CHECK(tokens[2].rows.empty());
  CHECK(tokens[3].rows == std::vector<std::int64_t>{0});
  CHECK(tokens[0].weights[0] == Approx(0.7));
  CHECK(tokens[1].weights[0] == Approx(0.3));
  CHECK(tokens[1].weights[1] == Approx(0.1));
  CHECK(tokens[3].weights[0] == Approx(0.5));

  route(four_experts(2, true), logits, tokens);  // scaled to a sum of 1; what was there is forgotten
  CHECK(tokens[1].rows.size() == 2);
  CHECK(tokens[3].weights[0] == Approx(0.5 / 0.8));
  CHECK(tokens[1].weights[0] == Approx(0.3 / 0.8));
}

TEST_CASE("every expert may be chosen, and broken logits choose some") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<ExpertTokens> tokens;
  route(four_experts(4, true), std::vector<float>{1000.0f, 999.0f, -1000.0f, 0.0f}, tokens);
  float total = 0.0f;
  for (const ExpertTokens& expert : tokens) {
    REQUIRE(expert.rows.size() == 1);
    total += expert.weights[0];
  }
  CHECK(total == Approx(1.0));
  CHECK(tokens[0].weights[0] == Approx(1.0 / (1.0 + std::exp(-1.0))));

  route(four_experts(2, true), std::vector<float>(4, nan), tokens);
  std::size_t chosen = 0;
  for (const ExpertTokens& expert : tokens) chosen += expert.rows.size();
  CHECK(chosen == 2);
}

TEST_CASE("a shared expert takes every token") {
  ExpertTokens tokens;
  share(std::vector<float>{0.0f, 2.0f, -100.0f}, tokens);
  CHECK(tokens.rows == std::vector<std::int64_t>{0, 1, 2});
  CHECK(tokens.weights[0] == 0.5f);
  CHECK(tokens.weights[1] == Approx(1.0 / (1.0 + std::exp(-2.0))));
  CHECK(tokens.weights[2] < 1e-30f);
}
