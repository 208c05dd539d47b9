#include "formats/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

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
  Json document = read_json_file(path, kTokenizerJson);
  if (!document.is_object()) throw Error(ExitCode::kMalformed, name + " must hold an object", path);
  return document;
}

// A named token is written as its text or as an object with its flags.
std::optional<AddedToken> named_token(const Json& config, const char* key, const std::string& where) {
  if (!has(config, key)) return std::nullopt;
  const Json& value = config[key];
  AddedToken token;
  if (value.is_object())
    token = added_token(value, where + ": '" + key + "'");
  else
    token.content = text(value, where + ": '" + key + "'");
  token.special = true;
  return token;
}

std::optional<bool> flag_of(const Json& config, const char* key, const std::string& where) {
  if (!has(config, key)) return std::nullopt;
  return optional_bool(config, key, false, where);
}

std::vector<AddedToken> added_tokens_decoder(const Json& config, const std::string& where) {
  std::vector<AddedToken> tokens;
  if (!has(config, "added_tokens_decoder")) return tokens;
  const Json& table = config["added_tokens_decoder"];
  if (!table.is_object()) throw malformed(where, "'added_tokens_decoder' must be an object");
  for (const auto& [key, row] : table.items()) {
    AddedToken token = added_token(row, where);
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc() || end != key.data() + key.size() || token.id < 0)
      throw malformed(where,
                      "'added_tokens_decoder' has the key \"" + escaped(key) + "\", which is no token id");
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
    std::optional<AddedToken> token = named_token(config, key, where);
    if (!token) token = named_token(map, key, "special_tokens_map.json");
    if (!token) continue;
    if (key == std::string_view("bos_token")) result.bos_token = token->content;
    if (key == std::string_view("eos_token")) result.eos_token = token->content;
    result.named_tokens.push_back(std::move(*token));
  }
  result.added_tokens = added_tokens_decoder(config, where);
  if (result.added_tokens.empty())
    result.added_tokens = added_tokens_json(read_if_there(folder, "added_tokens.json"), "added_tokens.json");
  result.add_bos_token = flag_of(config, "add_bos_token", where);
  result.add_eos_token = flag_of(config, "add_eos_token", where);
  result.add_prefix_space = flag_of(config, "add_prefix_space", where);
  result.legacy = optional_bool(config, "legacy", false, where);
  return result;
}

std::string read_model_type(const std::string& folder) {
  const std::string name = "config.json";
  return optional_string(read_if_there(folder, name), "model_type", "", name);
}

void complete(TokenizerParts& parts, const TokenizerConfig& config) {
  std::vector<AddedToken> tokens = parts.added_tokens.all();
  std::unordered_map<std::string, std::size_t> places;  // in `tokens`, by content
  for (std::size_t i = 0; i < tokens.size(); ++i) places.emplace(tokens[i].content, i);
  const auto known = [&](const std::string& content) -> AddedToken* {
    const auto place = places.find(content);
    return place == places.end() ? nullptr : &tokens[place->second];
  };
  const auto add = [&](const AddedToken& token, TokenId id) {
    places.emplace(token.content, tokens.size());
    tokens.push_back(token);
    tokens.back().id = id;
  };
  for (const AddedToken& token : config.added_tokens)
    if (!token.content.empty() && !known(token.content))
      add(token, parts.vocabulary->find(token.content).value_or(token.id));
  for (const AddedToken& named : config.named_tokens) {
    if (AddedToken* token = known(named.content))
      token->special = true;
    else if (const std::optional<TokenId> id = parts.vocabulary->find(named.content))
      add(named, *id);
  }
  // A name that no token has is passed over: transformers would give it a new id, for which the model has no
  // row.
  const auto id_of = [&](const std::optional<std::string>& name) -> std::optional<TokenId> {
    const AddedToken* token = name ? known(*name) : nullptr;
    return token ? std::optional(token->id) : std::nullopt;
  };
  parts.bos = id_of(config.bos_token);
  parts.eos = id_of(config.eos_token);
  parts.added_tokens = AddedTokens(std::move(tokens), parts.normalizer);
}

Frame frame_of(const TokenizerParts& parts, const TokenizerConfig& config, bool adds_bos, bool adds_eos) {
  Frame frame;
  if (parts.bos && config.add_bos_token.value_or(adds_bos)) frame.before.push_back(*parts.bos);
  if (parts.eos && config.add_eos_token.value_or(adds_eos)) frame.after.push_back(*parts.eos);
  return frame;
}

namespace {

void default_name(TokenizerConfig& config, std::optional<std::string>& name, const std::string& content) {
  if (name) return;
  name = content;
  AddedToken token;
  token.content = content;
  token.special = true;
  config.named_tokens.push_back(std::move(token));
}

}  // namespace

void default_bos(TokenizerConfig& config, const std::string& content) {
  default_name(config, config.bos_token, content);
}

void default_eos(TokenizerConfig& config, const std::string& content) {
  default_name(config, config.eos_token, content);
}

std::string tokenizer_class_of(const TokenizerConfig& config) {
  std::string name = config.tokenizer_class;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

}  // namespace qtool
