// The table of a model's tokens: id <-> spelling.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/tokenizer.h"

namespace qtool {

class Vocabulary {
 public:
  // Entries may come in any order and leave holes. Errors: kMalformed for a negative id, an id far beyond the
  // number of entries, and an id or spelling that is used twice.
  explicit Vocabulary(std::vector<std::pair<std::string, TokenId>> entries);

  std::optional<TokenId> find(std::string_view text) const;
  const std::string* text_of(TokenId id) const;  // null for a hole or an id outside
  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }  // highest id + 1

 private:
  struct Token {
    std::string text;
    bool used = false;
  };
  std::size_t home_of(std::string_view text) const;  // the first slot to look at
  std::size_t slot_of(std::string_view text) const;  // of the token, or the empty slot where it would go

  std::vector<Token> tokens_;
  // Open addressing, linear probing, at most half full: one cache miss per look-up where std::unordered_map
  // has three. Encoding a text is mostly look-ups.
  std::vector<TokenId> slots_;
};

// The ids of <0x00> .. <0xFF>, the tokens that spell what a vocabulary lacks byte by byte.
std::array<std::optional<TokenId>, 256> byte_tokens(const Vocabulary& vocabulary);

// Ids must be below this for `entries` entries: holes are normal (padding to a round size), a table of
// gigabytes for a file of a few bytes is not.
std::int64_t id_limit(std::size_t entries);

}  // namespace qtool
