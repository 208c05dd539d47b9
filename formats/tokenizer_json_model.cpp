#include "formats/tokenizer_json_model.h"

#include <utility>
#include <vector>

#include "core/limits.h"
#include "core/text/bpe.h"
#include "core/text/unigram.h"
#include "formats/tokenizer_json_fields.h"

namespace qtool::tokenizer_json {

namespace {

// Two forms: "a b", and ["a", "b"] since 2024, which allows spaces within tokens.
std::vector<Merge> merges_from(const Json& model, const std::string& where) {
  std::vector<Merge> merges;
  const Json& table = list(model, "merges", where);
  if (table.size() > kMaxMerges)
    throw malformed(
        where, "has " + std::to_string(table.size()) + " merges, more than " + std::to_string(kMaxMerges));
  merges.reserve(table.size());
  for (const Json& row : table) {
    if (row.is_array() && row.size() == 2) {
      merges.emplace_back(text(row[0], where), text(row[1], where));
      continue;
    }
    const std::string& pair = text(row, where + ": 'merges'");
    if (!pair.starts_with("#version")) merges.push_back(merge_from(pair, where));
  }
  return merges;
}

NamedModel bpe_from(const Json& model, const std::string& where) {
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

  NamedModel result;
  result.kind = options.byte_fallback ? "BPE (byte fallback)" : "BPE";
  result.vocabulary = vocabulary_from(member(model, "vocab", where), where);
  const std::vector<MergeRule> rules =
      merge_rules(*result.vocabulary, merges_from(model, where), options.continuing_subword_prefix);
  result.model = std::make_shared<Bpe>(result.vocabulary, rules, std::move(options));
  return result;
}

// "vocab" is a list of [token, log probability]; ids are its positions.
NamedModel unigram_from(const Json& model, const std::string& where) {
  std::vector<std::pair<std::string, TokenId>> entries;
  std::vector<double> scores;
  for (const Json& row : list(model, "vocab", where)) {
    if (!row.is_array() || row.size() != 2 || !row[1].is_number())
      throw malformed(where, "'vocab' must be a list of [token, score]");
    entries.emplace_back(text(row[0], where + ": 'vocab'"), static_cast<TokenId>(entries.size()));
    scores.push_back(row[1].get<double>());
  }
  UnigramOptions options;
  if (has(model, "unk_id")) options.unk_id = token_id(model["unk_id"], where + ": 'unk_id'");
  options.byte_fallback = optional_bool(model, "byte_fallback", false, where);

  NamedModel result;
  result.kind = options.byte_fallback ? "Unigram (byte fallback)" : "Unigram";
  result.vocabulary = std::make_shared<Vocabulary>(std::move(entries));
  result.model = std::make_shared<Unigram>(result.vocabulary, std::move(scores), options);
  return result;
}

struct Row {
  std::string_view type;
  NamedModel (*read)(const Json& model, const std::string& where);
};
constexpr Row kModels[] = {{"BPE", bpe_from}, {"Unigram", unigram_from}};

// Files older than the field "type" show it by their fields.
std::string type_of(const Json& model, const std::string& where) {
  if (has(model, "type")) return text(model, "type", where);
  if (model.contains("merges")) return "BPE";
  return has(model, "vocab") && model["vocab"].is_array() ? "Unigram" : "unnamed";
}

}  // namespace

std::shared_ptr<const Vocabulary> vocabulary_from(const Json& table, const std::string& where) {
  if (!table.is_object()) throw malformed(where, "'vocab' must be an object of tokens and ids");
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(table.size());
  for (const auto& [token, id] : table.items())
    entries.emplace_back(token, token_id(id, where + ": 'vocab'"));
  return std::make_shared<Vocabulary>(std::move(entries));
}

std::pair<std::string, std::string> merge_from(const std::string& pair, const std::string& where) {
  const std::size_t space = pair.find(' ');
  if (space == std::string::npos || pair.find(' ', space + 1) != std::string::npos)
    throw malformed(
        where, "the merge \"" + escaped(pair).substr(0, 80) + "\" must be two tokens and a space between");
  return {pair.substr(0, space), pair.substr(space + 1)};
}

NamedModel model_from(const Json& model, const std::string& what) {
  const std::string where = what + ": model";
  if (!model.is_object()) throw malformed(where, "must be an object");
  const std::string type = type_of(model, where);
  std::string known;
  for (const Row& row : kModels) {
    if (row.type != type) {
      known += (known.empty() ? "" : ", ") + std::string(row.type);
      continue;
    }
    try {
      return row.read(model, where);
    } catch (const Error& error) {
      if (std::string_view(error.what()).starts_with(what)) throw;
      throw error.within(where);
    }
  }
  throw unknown(what, "model", type, known);
}

}  // namespace qtool::tokenizer_json
