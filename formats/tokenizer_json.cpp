#include "formats/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "formats/tokenizer_json_fields.h"
#include "formats/tokenizer_json_model.h"
#include "formats/tokenizer_json_parts.h"

namespace qtool {

namespace {

using namespace tokenizer_json;

std::vector<AddedToken> added_tokens_from(const Json& document, const std::string& what) {
  std::vector<AddedToken> tokens;
  if (!has(document, "added_tokens")) return tokens;
  const std::string where = what + ": added_tokens";
  for (const Json& row : list(document, "added_tokens", what)) {
    AddedToken token = added_token(row, where);
    token.id = token_id(member(row, "id", where), where);
    if (!token.content.empty()) tokens.push_back(std::move(token));  // an empty one is never found
  }
  return tokens;
}

Json part_of(const Json& document, const char* key) { return has(document, key) ? document[key] : Json(); }

}  // namespace

TokenizerParts parts_from_tokenizer_json(const Json& document, const std::string& what) {
  NamedModel model = model_from(member(document, "model", what), what);
  TokenizerParts parts;
  parts.kind = std::move(model.kind);
  parts.vocabulary = std::move(model.vocabulary);
  parts.model = std::move(model.model);
  parts.normalizer = normalizer_from(part_of(document, "normalizer"), what);
  parts.pre_tokenizer = pre_tokenizer_from(part_of(document, "pre_tokenizer"), what);
  parts.frames = frames_from(part_of(document, "post_processor"), what);
  parts.decoder = decoder_from(part_of(document, "decoder"), what);
  parts.added_tokens = AddedTokens(added_tokens_from(document, what), parts.normalizer);
  if (std::any_of(parts.pre_tokenizer.begin(), parts.pre_tokenizer.end(),
                  [](const PreTokenizerStep& step) { return std::holds_alternative<BytesToChars>(step); }))
    parts.kind = parts.kind.substr(0, parts.kind.find(" (")) + " (byte-level)";
  return parts;
}

}  // namespace qtool
