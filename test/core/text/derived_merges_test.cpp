// Merges from a vocabulary alone.
#include "core/text/derived_merges.h"

#include <catch2/catch.hpp>
#include <random>

#include "core/error.h"
#include "core/limits.h"

using namespace qtool;

namespace {

using Rule = std::tuple<TokenId, TokenId, TokenId>;

std::vector<Rule> rules_of(const Vocabulary& vocabulary) {
  std::vector<Rule> rules;
  for (const MergeRule& rule : derived_merges(vocabulary))
    rules.emplace_back(rule.joined, rule.left, rule.right);
  return rules;
}

}  // namespace

TEST_CASE("derived merges are all cuts into two tokens, by token, left and right part") {
  std::mt19937 random(9);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::pair<std::string, TokenId>> entries;
    for (int i = 0; i < 60; ++i) {
      std::string text;
      for (unsigned length = 1 + random() % 4; length > 0; --length) text += "ab"[random() % 2];
      if (std::none_of(entries.begin(), entries.end(), [&](const auto& row) { return row.first == text; }))
        entries.emplace_back(text, static_cast<TokenId>(2 * entries.size()));  // with holes
    }
    const Vocabulary vocabulary(entries);
    std::vector<Rule> expected;
    for (const auto& [text, id] : entries)
      for (std::size_t i = 1; i < text.size(); ++i) {
        const auto left = vocabulary.find(text.substr(0, i));
        const auto right = vocabulary.find(text.substr(i));
        if (left && right) expected.emplace_back(id, *left, *right);
      }
    std::sort(expected.begin(), expected.end());
    REQUIRE(rules_of(vocabulary) == expected);
  }
}

TEST_CASE("a long token costs no more than its bytes") {
  const auto merges_of = [](std::size_t bytes) {
    return derived_merges(Vocabulary({{"a", 0}, {std::string(bytes, 'a'), 1}}));
  };
  CHECK(merges_of(kMaxTokenBytes).empty());
  CHECK_THROWS_AS(merges_of(kMaxTokenBytes + 1), Error);
}
