// A tokenizer as Hugging Face's `tokenizers` library builds them: added tokens, normalizer, pre-tokenizer,
// model, post-processor, decoder; each stage is data.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/text/added_tokens.h"
#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/token_model.h"
#include "core/text/tokenizer.h"
#include "core/text/vocabulary.h"

namespace qtool {

// What a post-processor puts around the ids of a text.
struct Frame {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

struct TokenizerParts {
  std::string kind;                              // for people: "BPE (byte-level)"
  std::shared_ptr<const Vocabulary> vocabulary;  // of the model, without tokens that were only added
  std::shared_ptr<const TokenModel> model;
  AddedTokens added_tokens;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<Frame> frames;  // applied in order, the last one is outermost
  std::vector<DecoderStep> decoder;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
};

// Errors: kMalformed for frames and named tokens with ids that no token has, and an added token whose id
// belongs to another token of the vocabulary.
std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts);

}  // namespace qtool
