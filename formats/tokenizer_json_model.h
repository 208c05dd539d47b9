// The part "model" of tokenizer.json: the vocabulary and what cuts a piece of text into its tokens.
#pragma once

#include <memory>
#include <string>

#include "core/text/token_model.h"
#include "core/text/vocabulary.h"
#include "formats/json.h"

namespace qtool::tokenizer_json {

struct NamedModel {
  std::string kind;  // for people: "BPE (byte fallback)"
  std::shared_ptr<const Vocabulary> vocabulary;
  std::shared_ptr<const TokenModel> model;
};

// Errors as parts_from_tokenizer_json.
NamedModel model_from(const Json& model, const std::string& what);

// An object of tokens and ids. Errors: kMalformed.
std::shared_ptr<const Vocabulary> vocabulary_from(const Json& table, const std::string& where);

// "a b": two tokens and a space between. Errors: kMalformed.
std::pair<std::string, std::string> merge_from(const std::string& pair, const std::string& where);

}  // namespace qtool::tokenizer_json
