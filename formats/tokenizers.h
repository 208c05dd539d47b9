// Tokenizer files -> Tokenizer.
#pragma once

#include <memory>
#include <string>

#include "core/text/tokenizer.h"

namespace qtool {

// The tokenizer of a model folder: tokenizer.json, else tokenizer.model (sentencepiece or tiktoken ranks),
// else vocab.json with merges.txt, else a *.tiktoken. tokenizer_config.json, special_tokens_map.json and
// added_tokens.json complete it as transformers does. Errors: kNotFound (none there), kMalformed,
// kUnsupported (a part qtool does not know, by name).
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);

}  // namespace qtool
