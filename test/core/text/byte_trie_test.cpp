// The trie against a map of the same strings.
#include "core/text/byte_trie.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>

using namespace qtool;

namespace {

std::int32_t value_of(const ByteTrie& trie, std::string_view text) {
  std::int32_t node = ByteTrie::kRoot;
  for (const char c : text) {
    node = trie.child(node, c);
    if (node == ByteTrie::kNone) return ByteTrie::kNone;
  }
  return trie.value(node);
}

}  // namespace

TEST_CASE("a trie has what was put in and nothing else") {
  std::mt19937 random(2);
  std::map<std::string, std::int32_t> table;
  ByteTrie trie;
  const auto word = [&random] {
    std::string text;
    for (unsigned length = 1 + random() % 6; length > 0; --length)
      text += static_cast<char>(random() % 4 * 80);
    return text;
  };
  for (std::int32_t value = 0; value < 3000; ++value) {
    const std::string text = word();
    table.try_emplace(text, value);
    trie.insert(text, value);
  }
  for (int i = 0; i < 20000; ++i) {
    const std::string text = word();
    const auto row = table.find(text);
    REQUIRE(value_of(trie, text) == (row == table.end() ? ByteTrie::kNone : row->second));
  }
}

TEST_CASE("the empty text is no member, and an empty trie has none") {
  ByteTrie trie;
  CHECK(value_of(trie, "a") == ByteTrie::kNone);
  trie.insert("", 1);
  CHECK(value_of(trie, "") == ByteTrie::kNone);
}
