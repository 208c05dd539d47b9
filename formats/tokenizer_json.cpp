#include "formats/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "core/text/bpe.h"
#include "formats/tokenizer_json_fields.h"
#include "formats/tokenizer_json_parts.h"

namespace qtool {

namespace {

using namespace tokenizer_json;

std::shared_ptr<const Vocabulary> vocabulary_from(const Json& model, const std::string& where) {
  const Json& table = member(model, "vocab", where);
  if (!table.is_object()) throw malformed(where, "'vocab' must be an object of tokens and ids");
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(table.size());
  for (const auto& [token, id] : table.items())
    entries.emplace_back(token, token_id(id, where + ": 'vocab'"));
  return std::make_shared<Vocabulary>(std::move(entries));
}

// Two forms: "a b", and ["a", "b"] since 2024, which allows spaces within tokens.
std::vector<Merge> merges_from(const Json& model, const std::string& where) {
  std::vector<Merge> merges;
  const Json& table = list(model, "merges", where);
  merges.reserve(table.size());
  for (const Json& row : table) {
    if (row.is_array() && row.size() == 2) {
      merges.emplace_back(text(row[0], where), text(row[1], where));
      continue;
    }
    const std::string& pair = text(row, where + ": 'merges'");
    if (pair.starts_with("#version")) continue;
    const std::size_t space = pair.find(' ');
    if (space == std::string::npos || pair.find(' ', space + 1) != std::string::npos)
      throw malformed(
          where, "the merge \"" + escaped(pair).substr(0, 80) + "\" must be two tokens and a space between");
    merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
  }
  return merges;
}

BpeOptions bpe_options_from(const Json& model, const std::string& where) {
  if (optional_number(model, "dropout", 0.0, where) != 0.0)
    throw Error(ExitCode::kUnsupported,
                where + ": 'dropout' makes the tokens of a text random; set it to null");
  BpeOptions options;
  if (has(model, "unk_token")) options.unk_token = text(model, "unk_token", where);
  options.continuing_subword_prefix = optional_string(model, "continuing_subword_prefix", "", where);
  options.end_of_word_suffix = optional_string(model, "end_of_word_suffix", "", where);
  options.fuse_unk = optional_bool(model, "fuse_unk", false, where);
  options.byte_fallback = optional_bool(model, "byte_fallback", false, where);
  options.ignore_merges = optional_bool(model, "ignore_merges", false, where);
  return options;
}

std::vector<AddedToken> added_tokens_from(const Json& document, const std::string& what) {
  std::vector<AddedToken> tokens;
  if (!has(document, "added_tokens")) return tokens;
  const std::string where = what + ": added_tokens";
  for (const Json& row : list(document, "added_tokens", what)) {
    AddedToken token;
    token.content = text(row, "content", where);
    token.id = token_id(member(row, "id", where), where);
    token.single_word = optional_bool(row, "single_word", false, where);
    token.lstrip = optional_bool(row, "lstrip", false, where);
    token.rstrip = optional_bool(row, "rstrip", false, where);
    token.special = optional_bool(row, "special", false, where);
    token.normalized = optional_bool(row, "normalized", !token.special, where);
    if (!token.content.empty()) tokens.push_back(std::move(token));  // an empty one is never found
  }
  return tokens;
}

Json part_of(const Json& document, const char* key) { return has(document, key) ? document[key] : Json(); }

}  // namespace

TokenizerParts parts_from_tokenizer_json(const Json& document, const std::string& what) {
  const Json& model = member(document, "model", what);
  const std::string where = what + ": model";
  if (!model.is_object()) throw malformed(where, "must be an object");
  // Files older than the field "type" have merges where the model is BPE.
  const std::string type =
      optional_string(model, "type", model.contains("merges") ? "BPE" : "unnamed", where);
  if (type != "BPE") throw unknown(what, "model", type, "BPE");

  TokenizerParts parts;
  try {
    BpeOptions options = bpe_options_from(model, where);
    parts.vocabulary = vocabulary_from(model, where);
    parts.kind = options.byte_fallback ? "BPE (byte fallback)" : "BPE";
    parts.model = std::make_shared<Bpe>(parts.vocabulary, merges_from(model, where), std::move(options));
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(what)) throw;
    throw error.within(where);
  }
  parts.normalizer = normalizer_from(part_of(document, "normalizer"), what);
  parts.pre_tokenizer = pre_tokenizer_from(part_of(document, "pre_tokenizer"), what);
  parts.frames = frames_from(part_of(document, "post_processor"), what);
  parts.decoder = decoder_from(part_of(document, "decoder"), what);
  parts.added_tokens = AddedTokens(added_tokens_from(document, what), parts.normalizer);
  if (std::any_of(parts.pre_tokenizer.begin(), parts.pre_tokenizer.end(),
                  [](const PreTokenizerStep& step) { return std::holds_alternative<BytesToChars>(step); }))
    parts.kind = "BPE (byte-level)";
  return parts;
}

}  // namespace qtool
