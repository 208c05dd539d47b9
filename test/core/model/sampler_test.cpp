// Sampling against transformers' processors (test/data/sampling.json, made by scripts/make_sampling), and the
// random numbers against the authors' vectors.
#include "core/model/sampler.h"

#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/json.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

SamplingParams params_of(const Json& keys) {
  SamplingParams params;
  params.sample = keys["do_sample"].get<bool>();
  params.temperature = keys.value("temperature", 1.0);
  params.top_k = keys.value("top_k", std::int64_t{0});
  params.top_p = keys.value("top_p", 1.0);
  params.min_p = keys.value("min_p", 0.0);
  params.typical_p = keys.value("typical_p", 1.0);
  params.repetition_penalty = keys.value("repetition_penalty", 1.0);
  params.no_repeat_ngram = keys.value("no_repeat_ngram_size", 0);
  if (keys.contains("sequence_bias"))
    for (const auto& [id, bias] : keys["sequence_bias"].items())
      params.logit_bias.emplace_back(std::stoi(id), bias.get<float>());
  return params;
}

}  // namespace

TEST_CASE("the processors leave the distribution that transformers' leave") {
  const Json tests = read_json_file(test::data("sampling.json"));
  REQUIRE(tests["cases"].size() >= 17);
  for (const Json& test : tests["cases"]) {
    INFO(test["params"].dump());
    const SamplingParams params = params_of(test["params"]);
    const auto logits = test["logits"].get<std::vector<float>>();
    const auto history = test["history"].get<std::vector<std::int32_t>>();
    const auto choose = [&](double uniform) {
      std::vector<float> scores = logits;
      return choose_token(scores, history, params, uniform);
    };
    if (!params.sample) {
      CHECK(choose(0.5) == test["likeliest"].get<std::int32_t>());
      continue;
    }
    // Tokens are laid out by id: just inside both ends of its stretch every token must be chosen.
    std::map<std::int32_t, double> expected;
    for (const auto& [id, probability] : test["probabilities"].items())
      expected[std::stoi(id)] = probability.get<double>();
    double below = 0.0;
    constexpr double kInside = 2e-6;  // the reference is float32
    for (const auto& [id, probability] : expected) {
      if (probability > 3 * kInside) {
        CHECK(choose(below + kInside) == id);
        CHECK(choose(below + probability - kInside) == id);
      }
      below += probability;
    }
    CHECK(below == Approx(1.0).epsilon(1e-5));
  }
}

TEST_CASE("greedy takes the lowest id of equals") {
  std::vector<float> scores{1.0f, 3.0f, 3.0f, 2.0f};
  CHECK(choose_token(scores, {}, {}, 0.9) == 1);
}

TEST_CASE("logits that are not finite are refused") {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    std::vector<float> scores{0.0f, value, 1.0f};
    CHECK_THROWS_AS(choose_token(scores, {}, {}, 0.0), Error);
  }
}

TEST_CASE("random numbers are Philox4x32-10") {
  // Known answers of Random123's kat_vectors: counter and key all zeros, and all ones. The first two words of
  // each answer make the number.
  CHECK(uniform_of(0, 0, 0) == static_cast<double>(0x6627e8d5e169c58dull >> 11) * 0x1p-53);
  CHECK(uniform_of(~0ull, ~0ull, ~0ull) == static_cast<double>(0x408f276d41c83b0eull >> 11) * 0x1p-53);
}

TEST_CASE("seeds, sequences and steps each give other numbers, all from 0 to below 1") {
  double sum = 0.0;
  for (std::uint64_t step = 0; step < 10000; ++step) {
    const double value = uniform_of(42, 0, step);
    REQUIRE(value >= 0.0);
    REQUIRE(value < 1.0);
    sum += value;
  }
  CHECK(sum / 10000 == Approx(0.5).margin(0.015));
  CHECK(uniform_of(1, 0, 0) != uniform_of(2, 0, 0));
  CHECK(uniform_of(1, 0, 0) != uniform_of(1, 1, 0));
}
