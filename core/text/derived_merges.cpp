#include "core/text/derived_merges.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "core/text/byte_trie.h"

namespace qtool {

// A token's beginnings that are tokens lie on its path through a trie, its ends on its path through a trie of
// reversed tokens: two walks instead of a look-up of both parts for every cut, which for a long token would
// be quadratic.
std::vector<MergeRule> derived_merges(const Vocabulary& vocabulary) {
  const auto count = static_cast<TokenId>(vocabulary.size());
  ByteTrie forward;
  ByteTrie backward;
  for (TokenId id = 0; id < count; ++id) {
    const std::string* text = vocabulary.text_of(id);
    if (!text) continue;
    forward.insert(*text, id);
    backward.insert(std::string(text->rbegin(), text->rend()), id);
  }
  std::vector<MergeRule> rules;
  std::vector<TokenId> ends;  // ends[i]: the token that is text[i..], or kNone
  for (TokenId id = 0; id < count; ++id) {
    const std::string* text = vocabulary.text_of(id);
    if (!text) continue;
    ends.assign(text->size(), ByteTrie::kNone);
    std::int32_t node = ByteTrie::kRoot;
    for (std::size_t i = text->size(); i-- > 1;) {
      node = backward.child(node, (*text)[i]);
      ends[i] = backward.value(node);
    }
    const std::size_t first = rules.size();
    node = ByteTrie::kRoot;
    for (std::size_t i = 0; i + 1 < text->size(); ++i) {
      node = forward.child(node, (*text)[i]);
      if (forward.value(node) != ByteTrie::kNone && ends[i + 1] != ByteTrie::kNone)
        rules.push_back({forward.value(node), ends[i + 1], id});
    }
    std::sort(rules.begin() + static_cast<std::ptrdiff_t>(first), rules.end(),
              [](const MergeRule& a, const MergeRule& b) {
                return std::tie(a.left, a.right) < std::tie(b.left, b.right);
              });
  }
  return rules;
}

}  // namespace qtool
