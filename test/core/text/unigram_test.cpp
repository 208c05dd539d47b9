// The unigram model against its definition and against the oddities of the reference.
#include "core/text/unigram.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "core/error.h"
#include "core/limits.h"

using namespace qtool;

namespace {

using Ids = std::vector<TokenId>;
using Scored = std::vector<std::pair<std::string, double>>;

std::shared_ptr<const Vocabulary> vocabulary(const Scored& tokens) {
  std::vector<std::pair<std::string, TokenId>> entries;
  for (const auto& [text, score] : tokens) entries.emplace_back(text, static_cast<TokenId>(entries.size()));
  return std::make_shared<Vocabulary>(std::move(entries));
}

Unigram unigram(const Scored& tokens, UnigramOptions options = {0, false}) {
  std::vector<double> scores;
  for (const auto& [text, score] : tokens) scores.push_back(score);
  return Unigram(vocabulary(tokens), std::move(scores), options);
}

Ids ids_of(const Unigram& model, std::string_view text) {
  Ids ids;
  model.tokenize(text, ids);
  return ids;
}

// The highest score of any way to cut `text`, by trying all.
double best_score(const std::map<std::string, double>& tokens, std::string_view text) {
  if (text.empty()) return 0.0;
  double best = -1e300;
  for (std::size_t size = 1; size <= text.size(); ++size) {
    const auto row = tokens.find(std::string(text.substr(0, size)));
    if (row != tokens.end()) best = std::max(best, row->second + best_score(tokens, text.substr(size)));
  }
  return best;
}

}  // namespace

TEST_CASE("the path found is the likeliest of all") {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, double> table{{"a", -3.0}, {"b", -4.0}, {"c", -5.0}};
    for (int i = 0; i < 15; ++i) {
      std::string token;
      for (unsigned length = 2 + random() % 3; length > 0; --length) token += "abc"[random() % 3];
      table[token] = -static_cast<double>(random() % 9000) / 1000.0;
    }
    Scored tokens{{"<unk>", 0.0}};
    tokens.insert(tokens.end(), table.begin(), table.end());
    const Unigram model = unigram(tokens);
    std::string text;
    for (int i = 0; i < 12; ++i) text += "abc"[random() % 3];
    double score = 0.0;
    std::string joined;
    for (const TokenId id : ids_of(model, text)) {
      score += tokens[static_cast<std::size_t>(id)].second;
      joined += tokens[static_cast<std::size_t>(id)].first;
    }
    REQUIRE(joined == text);
    REQUIRE(score == Approx(best_score(table, text)).margin(1e-9));
  }
}

TEST_CASE("of two ways with the same score the one whose last token begins earlier is kept") {
  // So do tokenizers 0.22.2: a later offer has to be better.
  CHECK(ids_of(unigram({{"<unk>", 0}, {"a", -1}, {"aa", -2}}), "aaa") == Ids{1, 2});
  CHECK(ids_of(unigram({{"<unk>", 0}, {"a", -1}, {"ab", -2}, {"b", -1}}), "ab") == Ids{2});
}

TEST_CASE("unknown characters: fused, as bytes, or as the token they spell") {
  const Scored tokens{{"<unk>", 0}, {"a", -1}, {"<0xC3>", -2}, {"<0xA9>", -2}};
  CHECK(ids_of(unigram(tokens), "axya") == Ids{1, 0, 1});
  CHECK(ids_of(unigram(tokens, {0, true}), "a\u00E9a") == Ids{1, 2, 3, 1});
  CHECK(ids_of(unigram(tokens, {0, true}), "\u00E9\u00E9") == Ids{2, 3, 2, 3});
  CHECK(ids_of(unigram(tokens, {0, true}), "a\u00E8a") == Ids{1, 0, 1});  // one byte has no token
  CHECK(ids_of(unigram(tokens, {0, true}), "\u00E9\u00E8") == Ids{0});    // ... which spoils the whole run
  CHECK(ids_of(unigram({{"<unk>", 0}, {"xy", -100}}), "xy") == Ids{1});   // likelier than two unknowns
  CHECK(ids_of(unigram({{"<unk>", -1}, {"x", -2}}), "?<unk>?") ==
        Ids{0});  // <unk> in the text is unknown, too
  CHECK(ids_of(unigram(tokens), "\u6F22") == Ids{0});
  CHECK_THROWS_AS(ids_of(unigram(tokens, {std::nullopt, false}), "x"), Error);  // nothing stands for it
}

TEST_CASE("tables that contradict themselves are refused") {
  CHECK_THROWS_AS(unigram({{"a", 0}}, {7, false}), Error);
  CHECK_THROWS_AS(unigram({{"<unk>", 0}, {std::string(kMaxTokenBytes + 1, 'a'), 0}}), Error);
  CHECK_THROWS_AS(Unigram(vocabulary({{"a", 0}}), {}, {}), Error);
}

TEST_CASE("a megabyte of the worst text is cut in bounded time") {
  Scored tokens{{"<unk>", 0}};
  for (int length = 1; length <= 64; ++length)
    tokens.emplace_back(std::string(static_cast<std::size_t>(length), 'a'), -length);
  tokens.emplace_back(std::string(1000, 'a') + "b", -1);  // followed at every position, never reached
  CHECK_FALSE(ids_of(unigram(tokens), std::string(1 << 17, 'a')).empty());
}
