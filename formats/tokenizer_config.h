// tokenizer_config.json and the two older files beside it: what transformers knows about a tokenizer that the
// tokenizer's own file does not say.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/text/added_tokens.h"
#include "core/text/pipeline.h"

namespace qtool {

struct TokenizerConfig {
  std::string tokenizer_class;  // "LlamaTokenizer"; empty when not given
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::vector<std::string> named_tokens;  // bos, eos, unk, pad, ...: all of them special
  std::vector<AddedToken> added_tokens;   // of added_tokens_decoder, else of added_tokens.json
  bool add_bos_token = true;              // these four matter to tokenizer.model only
  bool add_eos_token = false;
  bool add_prefix_space = true;
  bool legacy = false;
};

// What the folder has of tokenizer_config.json, special_tokens_map.json and added_tokens.json. Errors:
// kMalformed.
TokenizerConfig read_tokenizer_config(const std::string& folder);

// Adds to `parts` what the configuration alone knows: tokens, which of them are special, BOS and EOS. Where
// both describe a token the tokenizer's own file counts.
void complete(TokenizerParts& parts, const TokenizerConfig& config);

}  // namespace qtool
