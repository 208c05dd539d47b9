#include "core/text/bpe.h"

#include <catch2/catch.hpp>
#include <random>

#include "core/error.h"

using namespace qtool;

namespace {

using Ids = std::vector<TokenId>;

std::shared_ptr<const Vocabulary> vocabulary(const std::vector<std::string>& tokens) {
  std::vector<std::pair<std::string, TokenId>> entries;
  for (const std::string& token : tokens) entries.emplace_back(token, static_cast<TokenId>(entries.size()));
  return std::make_shared<Vocabulary>(std::move(entries));
}

Ids ids_of(const Bpe& bpe, const std::string& piece) {
  Ids ids;
  bpe.tokenize(piece, ids);
  return ids;
}

// The definition: join the pair of the lowest rank, leftmost first, until there is none.
std::vector<std::string> joined_by_definition(std::vector<std::string> parts,
                                              const std::vector<Merge>& merges) {
  while (true) {
    std::size_t best_rank = merges.size();
    std::size_t best = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (merges[rank].first == parts[i] && merges[rank].second == parts[i + 1]) best_rank = rank, best = i;
    if (best_rank == merges.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

}  // namespace

TEST_CASE("merging by a heap is merging by the definition") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> tokens{"a", "b", "c"};
    std::vector<Merge> merges;
    for (int i = 0; i < 12; ++i) {
      const std::string& left = tokens[random() % tokens.size()];
      const std::string& right = tokens[random() % tokens.size()];
      const std::string both = left + right;
      merges.emplace_back(left, right);
      if (std::find(tokens.begin(), tokens.end(), both) == tokens.end()) tokens.push_back(both);
      if (std::count(merges.begin(), merges.end(), merges.back()) > 1) merges.pop_back();
    }
    const auto table = vocabulary(tokens);
    const Bpe bpe(table, merge_rules(*table, merges, ""), {});
    std::string text;
    std::vector<std::string> letters;
    for (int i = 0; i < 40; ++i) {
      letters.emplace_back(1, "abc"[random() % 3]);
      text += letters.back();
    }
    std::vector<std::string> got;
    for (const TokenId id : ids_of(bpe, text)) got.push_back(*table->text_of(id));
    REQUIRE(got == joined_by_definition(letters, merges));
  }
}

TEST_CASE("unknown characters: unk, fused unk, bytes, nothing") {
  const auto table = vocabulary({"<unk>", "a", "<0xC3>", "<0xA9>"});
  BpeOptions options;
  CHECK(ids_of(Bpe(table, {}, options), "axya") == Ids{1, 1});
  options.unk_token = "<unk>";
  CHECK(ids_of(Bpe(table, {}, options), "axya") == Ids{1, 0, 0, 1});
  options.fuse_unk = true;
  CHECK(ids_of(Bpe(table, {}, options), "axya") == Ids{1, 0, 1});
  options.byte_fallback = true;
  CHECK(ids_of(Bpe(table, {}, options), "a\u00E9a") == Ids{1, 2, 3, 1});
  CHECK(ids_of(Bpe(table, {}, options), "a\u00E8a") == Ids{1, 0, 1});  // one byte has no token: none is used
  CHECK(ids_of(Bpe(table, {}, options), "x\u00E9a") == Ids{2, 3, 0, 1});  // the reference's order
}

TEST_CASE("prefix, suffix and ignore_merges") {
  BpeOptions options;
  options.continuing_subword_prefix = "##";
  options.end_of_word_suffix = "</w>";
  const auto table = vocabulary({"a", "##b", "##b</w>", "ab</w>", "a</w>", "ab"});
  const Bpe marked(table, merge_rules(*table, {{"a", "##b</w>"}, {"a", "##b"}}, "##"), options);
  CHECK(ids_of(marked, "ab") == Ids{3});
  CHECK(ids_of(marked, "abb") == Ids{5, 2});
  CHECK(ids_of(marked, "a") == Ids{4});

  BpeOptions ignoring;
  ignoring.ignore_merges = true;
  CHECK(ids_of(Bpe(vocabulary({"a", "b", "ab"}), {}, ignoring), "ab") == Ids{2});
  CHECK(ids_of(Bpe(vocabulary({"a", "b", "ab"}), {}, {}), "ab") == Ids{0, 1});
}

TEST_CASE("ids chosen to collide are refused, not looked up for ever") {
  // As MergeTable hashes: for every right id one left id modulo the table's size falls into the same slot.
  constexpr std::size_t kCount = 1 << 12, kSlots = 4 * kCount;
  std::vector<MergeRule> rules;
  for (std::uint64_t right = 0; right < kCount; ++right)
    for (std::uint64_t left = 0; left < kSlots; ++left) {
      const std::uint64_t pair = left << 32 | right;
      if ((((pair * 0x9E3779B97F4A7C15u) >> 32) & (kSlots - 1)) != 7) continue;
      rules.push_back({static_cast<TokenId>(left), static_cast<TokenId>(right), 0});
      break;
    }
  REQUIRE(rules.size() == kCount);
  CHECK_THROWS_AS(Bpe(vocabulary({"a"}), rules, {}), Error);
}

TEST_CASE("a megabyte without a gap is merged in bounded time") {
  std::vector<std::string> tokens{"a"};
  std::vector<Merge> merges;
  for (int i = 0; i < 12; ++i) {
    merges.emplace_back(tokens.back(), tokens.back());
    tokens.push_back(tokens.back() + tokens.back());
  }
  const auto table = vocabulary(tokens);
  const Bpe bpe(table, merge_rules(*table, merges, ""), {});
  CHECK(ids_of(bpe, std::string(1 << 20, 'a')).size() == 256);
}

TEST_CASE("tables that contradict themselves are malformed") {
  CHECK_THROWS_AS(merge_rules(*vocabulary({"a"}), {{"a", "b"}}, ""), Error);
  CHECK_THROWS_AS(merge_rules(*vocabulary({"a", "b"}), {{"a", "b"}}, ""), Error);
  BpeOptions options;
  options.unk_token = "?";
  CHECK_THROWS_AS(Bpe(vocabulary({"a"}), {}, options), Error);
  CHECK_THROWS_AS(Vocabulary({{"a", 0}, {"b", 0}}), Error);
  CHECK_THROWS_AS(Vocabulary({{"a", 0}, {"a", 1}}), Error);
  CHECK_THROWS_AS(Vocabulary({{"a", 2'000'000'000}}), Error);
  CHECK_THROWS_AS(Vocabulary({{"a", -1}}), Error);
  CHECK(Vocabulary({}).size() == 0);
}
