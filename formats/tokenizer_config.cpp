#include "formats/tokenizer_config.h"

#include <algorithm>
#include <charconv>

#include "formats/file.h"
#include "formats/tokenizer_json_fields.h"

namespace qtool {

namespace {

using namespace tokenizer_json;

constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};

Json read_if_there(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  if (!exists(path)) return Json::object();
  Json document = read_json_file(path);
  if (!document.is_object()) throw Error(ExitCode::kMalformed, name + " must hold an object", path);
  return document;
}

// A named token is written as its text or as an object with the text in 'content'.
std::optional<std::string> named_token(const Json& config, const char* key, const std::string& where) {
  if (!has(config, key)) return std::nullopt;
  const Json& value = config[key];
  return value.is_object() ? text(value, "content", where) : text(value, where + ": '" + key + "'");
}

std::vector<AddedToken> added_tokens_decoder(const Json& config, const std::string& where) {
  std::vector<AddedToken> tokens;
  if (!has(config, "added_tokens_decoder")) return tokens;
  const Json& table = config["added_tokens_decoder"];
  if (!table.is_object()) throw malformed(where, "'added_tokens_decoder' must be an object");
  for (const auto& [key, row] : table.items()) {
    AddedToken token;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc() || end != key.data() + key.size() || token.id < 0)
      throw malformed(where,
                      "'added_tokens_decoder' has the key \"" + escaped(key) + "\", which is no token id");
    token.content = text(row, "content", where);
    token.single_word = optional_bool(row, "single_word", false, where);
    token.lstrip = optional_bool(row, "lstrip", false, where);
    token.rstrip = optional_bool(row, "rstrip", false, where);
    token.special = optional_bool(row, "special", false, where);
    token.normalized = optional_bool(row, "normalized", !token.special, where);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::vector<AddedToken> added_tokens_json(const Json& table, const std::string& where) {
  std::vector<AddedToken> tokens;
  for (const auto& [content, id] : table.items()) {
    AddedToken token;
    token.content = content;
    token.id = token_id(id, where);
    token.normalized = true;  // as tokenizers' AddedToken where nothing else is said
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  const std::string where = "tokenizer_config.json";
  const Json config = read_if_there(folder, where);
  const Json map = read_if_there(folder, "special_tokens_map.json");

  TokenizerConfig result;
  result.tokenizer_class = optional_string(config, "tokenizer_class", "", where);
  for (const char* key : kNamedTokens) {
    std::optional<std::string> token = named_token(config, key, where);
    if (!token) token = named_token(map, key, "special_tokens_map.json");
    if (!token) continue;
    if (key == std::string_view("bos_token")) result.bos_token = token;
    if (key == std::string_view("eos_token")) result.eos_token = token;
    result.named_tokens.push_back(std::move(*token));
  }
  result.added_tokens = added_tokens_decoder(config, where);
  if (result.added_tokens.empty())
    result.added_tokens = added_tokens_json(read_if_there(folder, "added_tokens.json"), "added_tokens.json");
  result.add_bos_token = optional_bool(config, "add_bos_token", true, where);
  result.add_eos_token = optional_bool(config, "add_eos_token", false, where);
  result.add_prefix_space = optional_bool(config, "add_prefix_space", true, where);
  result.legacy = optional_bool(config, "legacy", false, where);
  return result;
}

void complete(TokenizerParts& parts, const TokenizerConfig& config) {
  std::vector<AddedToken> tokens = parts.added_tokens.all();
  const auto known = [&tokens](const std::string& content) {
    return std::find_if(tokens.begin(), tokens.end(),
                        [&content](const AddedToken& token) { return token.content == content; });
  };
  for (const AddedToken& token : config.added_tokens) {
    if (token.content.empty() || known(token.content) != tokens.end()) continue;
    tokens.push_back(token);
    tokens.back().id = parts.vocabulary->find(token.content).value_or(token.id);
  }
  for (const std::string& name : config.named_tokens) {
    const auto row = known(name);
    if (row != tokens.end()) {
      row->special = true;
    } else if (const std::optional<TokenId> id = parts.vocabulary->find(name)) {
      AddedToken token;
      token.content = name;
      token.id = *id;
      token.special = true;
      tokens.push_back(std::move(token));
    }
  }
  // A name that no token has is passed over: transformers would give it a new id, for which the model has no
  // row.
  const auto id_of = [&](const std::optional<std::string>& name) -> std::optional<TokenId> {
    if (!name || known(*name) == tokens.end()) return std::nullopt;
    return known(*name)->id;
  };
  parts.bos = id_of(config.bos_token);
  parts.eos = id_of(config.eos_token);
  parts.added_tokens = AddedTokens(std::move(tokens), parts.normalizer);
}

}  // namespace qtool
