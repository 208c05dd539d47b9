// Tokens that are found in the text before anything else is done to it: special tokens and a user's own.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/byte_trie.h"
#include "core/text/normalizer.h"
#include "core/text/tokenizer.h"

namespace qtool {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  // only between characters that are not of words
  bool lstrip = false;       // swallows white space in front
  bool rstrip = false;       // ... and behind
  bool normalized = false;   // is looked for in normalized text, itself normalized
  bool special = false;      // left out when special tokens are skipped
};

// A stretch of text: an added token, or text between them.
struct Segment {
  Span span;
  std::optional<TokenId> token;
};

class AddedTokens {
 public:
  AddedTokens() = default;

  // Errors: kMalformed for ids or contents used twice and for contents over 4 KB.
  AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer);

  // The stretches of `text`, in order, covering it except that neighbours may swallow white space. Where
  // several tokens match, the leftmost counts, of these the longest. `normalized` chooses the tokens looked
  // for.
  std::vector<Segment> find(std::string_view text, bool normalized) const;

  const std::vector<AddedToken>& all() const { return tokens_; }
  const AddedToken* by_id(TokenId id) const;
  const AddedToken* by_content(std::string_view content) const;

 private:
  struct Match {
    std::size_t length = 0;
    std::size_t token = 0;  // index into `tokens_`
  };
  static std::optional<Match> longest_at(const ByteTrie& trie, std::string_view text, std::size_t position);

  std::vector<AddedToken> tokens_;
  std::unordered_map<TokenId, std::size_t> by_id_;
  std::map<std::string, std::size_t, std::less<>> by_content_;
  std::array<ByteTrie, 2> tries_;  // by AddedToken::normalized
};

}  // namespace qtool
