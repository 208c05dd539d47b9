// The third stage of a tokenizer: one piece of text -> token ids.
#pragma once

#include <string_view>
#include <vector>

#include "core/text/tokenizer.h"

namespace qtool {

class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Appends the ids of `piece` (valid UTF-8, not empty). The same piece always has the same ids. Thread-safe.
  virtual void tokenize(std::string_view piece, std::vector<TokenId>& out) const = 0;
};

}  // namespace qtool
