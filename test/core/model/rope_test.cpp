// Rotary frequencies against transformers (test/data/logits/rope.json, made by scripts/make_logits).
#include "core/model/rope.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "formats/json.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

RopeType type_of(const std::string& name) {
  if (name == "linear") return RopeType::kLinear;
  if (name == "dynamic") return RopeType::kDynamic;
  if (name == "llama3") return RopeType::kLlama3;
  if (name == "yarn") return RopeType::kYarn;
  if (name == "longrope") return RopeType::kLongRope;
  REQUIRE(name == "default");
  return RopeType::kDefault;
}

ModelSpec spec_of(const Json& test) {
  const Json& keys = test["rope"];
  ModelSpec spec;
  spec.max_positions = test["max_positions"].get<std::int64_t>();
  spec.rope.type = type_of(keys["rope_type"].get<std::string>());
  spec.rope.rotary_dim = test["rotary_dim"].get<int>();
  spec.rope.theta = keys["rope_theta"].get<double>();
  spec.rope.factor = keys.value("factor", 1.0);
  spec.rope.original_max_positions = keys.value("original_max_position_embeddings", spec.max_positions);
  spec.rope.low_freq_factor = keys.value("low_freq_factor", 1.0);
  spec.rope.high_freq_factor = keys.value("high_freq_factor", 4.0);
  spec.rope.beta_fast = keys.value("beta_fast", 32.0);
  spec.rope.beta_slow = keys.value("beta_slow", 1.0);
  spec.rope.truncate = keys.value("truncate", true);
  if (keys.contains("mscale")) spec.rope.mscale = keys["mscale"].get<double>();
  if (keys.contains("mscale_all_dim")) spec.rope.mscale_all_dim = keys["mscale_all_dim"].get<double>();
  if (keys.contains("attention_factor")) spec.rope.attention_factor = keys["attention_factor"].get<double>();
  spec.rope.short_factor = keys.value("short_factor", std::vector<double>{});
  spec.rope.long_factor = keys.value("long_factor", std::vector<double>{});
  return spec;
}

}  // namespace

TEST_CASE("every rope type has transformers' frequencies") {
  const Json tests = read_json_file(test::data("logits/rope.json"));
  REQUIRE(tests["cases"].size() >= 13);
  for (const Json& test : tests["cases"]) {
    INFO(test["name"].get<std::string>());
    const ModelSpec spec = spec_of(test);
    const RopeFrequencies found =
        rope_frequencies(spec.rope, spec.max_positions, test["length"].get<std::int64_t>());
    const Json& expected = test["inv_freq"];
    REQUIRE(found.inv_freq.size() == expected.size());
    CHECK(found.scaling == Approx(test["scaling"].get<double>()).epsilon(1e-7));
    // torch's float32 power is within one unit in the last place of ours, which is rounded correctly; a sum
    // of two terms (llama3, yarn) may double that. The second test is that the order of roundings is the
    // same: most agree.
    std::size_t equal = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double value = std::strtod(expected[i].get<std::string>().c_str(), nullptr);
      INFO("frequency " << i);
      CHECK(std::abs(found.inv_freq[i] - value) <= value * 0x1p-22);
      equal += found.inv_freq[i] == static_cast<float>(value) ? 1 : 0;
    }
    CHECK(equal * 2 > expected.size());
  }
}

TEST_CASE("a rope table holds the scaled cosine and sine of every position") {
  const RopeFrequencies frequencies{{1.0f, 0.25f}, 1.5f};
  std::vector<float> cos(4), sin(4);
  rope_table(frequencies, 3, cos, sin);
  for (int row = 0; row < 2; ++row)
    for (int pair = 0; pair < 2; ++pair) {
      const double angle = (3.0 + row) * (pair == 0 ? 1.0 : 0.25);
      CHECK(cos[static_cast<std::size_t>(row * 2 + pair)] == Approx(1.5 * std::cos(angle)).epsilon(1e-6));
      CHECK(sin[static_cast<std::size_t>(row * 2 + pair)] == Approx(1.5 * std::sin(angle)).epsilon(1e-6));
    }
}

TEST_CASE("only longrope drops the cache, and only where it crosses its original length") {
  RopeSpec rope;
  rope.original_max_positions = 32;
  rope.type = RopeType::kLongRope;
  CHECK(rope_invalidates_cache(rope, 32, 33));
  CHECK(rope_invalidates_cache(rope, 10, 100));
  CHECK_FALSE(rope_invalidates_cache(rope, 0, 100));  // nothing cached yet
  CHECK_FALSE(rope_invalidates_cache(rope, 31, 32));
  CHECK_FALSE(rope_invalidates_cache(rope, 33, 34));
  rope.type = RopeType::kDynamic;
  CHECK_FALSE(rope_invalidates_cache(rope, 32, 33));
}
