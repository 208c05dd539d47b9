// A text there and back through a tokenizer that a stranger described.
#pragma once

#include <string>
#include <vector>

#include "core/text/pipeline.h"
#include "test/fuzz/fuzz.h"

namespace qtool::test {

inline void tokenize(TokenizerParts parts) {
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(std::move(parts));
  for (const std::string_view text :
       {"Caf\u00E9 \uFB01 \uFF21\t\u2026 <|user|>aab", "  don't  1234567 \u0915\u094D\u0937\r\n\r\n",
        "</s>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\U0001F469\u200D\U0001F680"}) {
    const std::vector<TokenId> ids = tokenizer->encode(text, true);
    for (const TokenId id : ids)
      must_hold(id >= 0 && id < tokenizer->vocab_size(), "an id outside of the vocabulary");
    tokenizer->decode(ids, true);
    const std::unique_ptr<StreamDecoder> stream = tokenizer->stream({}, false);
    for (const TokenId id : ids) stream->push(id);
    stream->finish();
  }
}

}  // namespace qtool::test
