#include "formats/tiktoken.h"

#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text/bpe.h"
#include "core/text/byte_alphabet.h"
#include "core/text/derived_merges.h"
#include "formats/base64.h"
#include "formats/byte_level_classes.h"
#include "formats/text_lines.h"

namespace qtool {

namespace {

using Entry = std::pair<std::string, TokenId>;

// "IQ== 0"; nullopt for any other line.
std::optional<Entry> entry_of(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0) return std::nullopt;
  const std::optional<std::string> bytes = from_base64(line.substr(0, space));
  const std::string_view digits = line.substr(space + 1);
  TokenId rank = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  if (!bytes || bytes->empty() || error != std::errc() || end != digits.data() + digits.size() || rank < 0)
    return std::nullopt;
  return Entry{*bytes, rank};
}

// A special token by its distance from the first id behind the ranks.
struct Special {
  int offset;
  const char* content;
};

struct Model {
  std::string_view name;
  std::string_view classes;      // that use it, each between spaces
  std::string_view model_types;  // likewise, where the class is one of no model's own
  const char* pattern;
  bool is_nfc;
  const char* bos;  // added in front unless add_bos_token is false; nullptr: none
  const char* eos;
  std::vector<Special> specials;  // where the configuration lists none
};

const std::vector<Model>& models() {
  static const std::vector<Model> rows = {
      // The tokens that Llama 3, 3.1 and 3.2 share; what else they have stands in tokenizer_config.json.
      {"Llama 3",
       " ",
       " llama mllama ",
       kLlama3Pattern,
       false,
       "<|begin_of_text|>",
       "<|end_of_text|>",
       {{0, "<|begin_of_text|>"},
        {1, "<|end_of_text|>"},
        {6, "<|start_header_id|>"},
        {7, "<|end_header_id|>"},
        {9, "<|eot_id|>"}}},
      {"Qwen",
       " QWenTokenizer ",
       " qwen ",
       kQwenPattern,
       true,
       nullptr,
       "<|endoftext|>",
       {{0, "<|endoftext|>"}, {1, "<|im_start|>"}, {2, "<|im_end|>"}}},
  };
  return rows;
}

const Model& model_of(const TokenizerConfig& config, const std::string& what) {
  const std::string name = tokenizer_class_of(config);
  const bool is_general = name.empty() || name == "PreTrainedTokenizer" || name == "TokenizersBackend" ||
                          name == "LlamaTokenizer";
  std::string known;
  for (const Model& model : models()) {
    if (lists(model.classes, name) || (is_general && lists(model.model_types, config.model_type)))
      return model;
    known += (known.empty() ? "" : ", ") + std::string(model.name);
  }
  throw Error(ExitCode::kUnsupported,
              what + ": the file holds tiktoken ranks, which do not say how text is cut; that is known for " +
                  known + ", but tokenizer_config.json names the class '" + escaped(config.tokenizer_class) +
                  "' and config.json the model type '" + escaped(config.model_type) +
                  "'; a tokenizer.json would be read");
}

std::vector<AddedToken> specials_of(const Model& model, TokenId first) {
  std::vector<AddedToken> tokens;
  for (const Special& special : model.specials) {
    AddedToken token;
    token.content = special.content;
    token.id = first + special.offset;
    token.special = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

bool is_tiktoken(std::string_view content) { return entry_of(take_line(content)).has_value(); }

TokenizerParts parts_from_tiktoken(std::string_view content, const TokenizerConfig& config,
                                   const std::string& what) {
  const Model& model = model_of(config, what);
  std::vector<Entry> entries;
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::string_view line = take_line(content);
    if (line.empty()) continue;
    std::optional<Entry> entry = entry_of(line);
    if (!entry)
      throw Error(ExitCode::kMalformed, what + ": line " + std::to_string(number) +
                                            " must be a token in base64, a space and its rank, is \"" +
                                            escaped(line.substr(0, 80)) + "\"");
    std::string spelling;
    append_bytes_as_chars(entry->first, spelling);
    entries.emplace_back(std::move(spelling), entry->second);
  }
  TokenizerParts parts;
  parts.kind = "tiktoken";
  parts.vocabulary = std::make_shared<Vocabulary>(std::move(entries));
  BpeOptions options;
  options.ignore_merges = true;  // a piece that has a rank is one token
  parts.model =
      std::make_shared<Bpe>(parts.vocabulary, derived_merges(*parts.vocabulary), std::move(options));
  set_byte_level_stages(parts, Regex::from_oniguruma(model.pattern), model.is_nfc);

  TokenizerConfig completed = config;
  if (config.added_tokens.empty())
    completed.added_tokens = specials_of(model, static_cast<TokenId>(parts.vocabulary->size()));
  if (model.bos) default_bos(completed, model.bos);
  default_eos(completed, model.eos);
  complete(parts, completed);
  parts.frames = {frame_of(parts, config, model.bos != nullptr, false)};
  return parts;
}

}  // namespace qtool
