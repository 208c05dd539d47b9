// What the sentencepiece library keeps to itself: the few fields of a model that its public interface does
// not give.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/tokenizer.h"

namespace qtool {

// Names and defaults are those of sentencepiece_model.proto.
struct SentencePieceFields {
  enum class ModelType : std::uint8_t { kUnigram = 1, kBpe, kWord, kChar };

  std::vector<TokenId> user_defined;  // pieces that are found before anything else is cut; rising
  // trainer_spec
  ModelType model_type = ModelType::kUnigram;
  bool treat_whitespace_as_suffix = false;
  // normalizer_spec
  std::string precompiled_charsmap;
  bool add_dummy_prefix = true;

  std::string segmentation;  // the file without all that is not needed to cut normalized text
};

// `what` names the file in errors. Errors: kMalformed for bytes that are no protocol buffer. Like a protocol
// buffer's own reader this passes over fields of an unexpected type; the library judges the rest.
SentencePieceFields read_sentencepiece_fields(std::string_view content, const std::string& what);

}  // namespace qtool
