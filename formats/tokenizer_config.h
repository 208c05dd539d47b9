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
  std::vector<AddedToken> named_tokens;  // bos, eos, unk, pad, ...: all of them special; ids unset
  std::vector<AddedToken> added_tokens;  // of added_tokens_decoder, else of added_tokens.json
  // These matter where there is no tokenizer.json; what their absence means depends on the tokenizer's class.
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_prefix_space;
  bool legacy = false;
  std::string model_type;  // of config.json, where there is no tokenizer.json
};

// What a class or a file calls BOS and EOS where the configuration does not.
void default_bos(TokenizerConfig& config, const std::string& content);
void default_eos(TokenizerConfig& config, const std::string& content);

// tokenizer_class without "Fast": the two behave alike.
std::string tokenizer_class_of(const TokenizerConfig& config);

// What the folder has of tokenizer_config.json, special_tokens_map.json and added_tokens.json. Errors:
// kMalformed.
TokenizerConfig read_tokenizer_config(const std::string& folder);

// "model_type" of the folder's config.json, empty without one. Errors: kMalformed.
std::string read_model_type(const std::string& folder);

// Adds to `parts` what the configuration alone knows: tokens, which of them are special, BOS and EOS. Where
// both describe a token the tokenizer's own file counts.
void complete(TokenizerParts& parts, const TokenizerConfig& config);

// The frame that `config` asks for around a text, with these defaults for what it leaves open: BOS and EOS as
// far as the tokenizer has them.
Frame frame_of(const TokenizerParts& parts, const TokenizerConfig& config, bool adds_bos, bool adds_eos);

}  // namespace qtool
