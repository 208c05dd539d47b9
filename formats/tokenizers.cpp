#include "formats/tokenizers.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/file.h"
#include "formats/sentencepiece_model.h"
#include "formats/tiktoken.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_json.h"
#include "formats/vocab_merges.h"

namespace qtool {

namespace {

TokenizerParts parts_from_json_file(const std::string& folder, const std::string& name) {
  TokenizerParts parts = parts_from_tokenizer_json(read_json_file(folder + "/" + name, kTokenizerJson), name);
  complete(parts, read_tokenizer_config(folder));
  return parts;
}

// The older forms leave to the tokenizer's class what tokenizer.json spells out.
TokenizerConfig class_config(const std::string& folder) {
  TokenizerConfig config = read_tokenizer_config(folder);
  config.model_type = read_model_type(folder);
  return config;
}

// Two formats share the name tokenizer.model.
TokenizerParts parts_from_model_file(const std::string& folder, const std::string& name) {
  const std::string content = read_file(folder + "/" + name);
  const TokenizerConfig config = class_config(folder);
  return is_tiktoken(content) ? parts_from_tiktoken(content, config, name)
                              : parts_from_sentencepiece(content, config, name);
}

TokenizerParts parts_from_vocab_file(const std::string& folder, const std::string& name) {
  const std::string merges = folder + "/merges.txt";
  if (!exists(merges))
    throw Error(ExitCode::kNotFound,
                "no tokenizer in " + folder + ": there is a vocab.json, but no merges.txt", folder);
  return parts_from_vocab_merges(read_json_file(folder + "/" + name, kTokenizerJson), read_file(merges),
                                 class_config(folder));
}

TokenizerParts parts_from_ranks_file(const std::string& folder, const std::string& name) {
  return parts_from_tiktoken(read_file(folder + "/" + name), class_config(folder), name);
}

// What a folder may have, the most telling first.
struct Source {
  std::string_view name;
  TokenizerParts (*read)(const std::string& folder, const std::string& name);
};
constexpr Source kSources[] = {
    {"tokenizer.json", parts_from_json_file},
    {"tokenizer.model", parts_from_model_file},
    {"vocab.json", parts_from_vocab_file},
};
constexpr std::string_view kRanksEnding = ".tiktoken";

// The first file (by name) that ends in .tiktoken; empty: none.
std::string ranks_file_in(const std::string& folder) {
  std::string first;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kRanksEnding) && (first.empty() || name < first)) first = name;
  }
  return first;
}

std::unique_ptr<Tokenizer> load(const std::string& folder, const Source& source) {
  const std::string name(source.name);
  try {
    return make_tokenizer(source.read(folder, name));
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.path().empty() ? folder + "/" + name : error.path());
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  std::string known;
  for (const Source& source : kSources) {
    if (exists(folder + "/" + std::string(source.name))) return load(folder, source);
    known += std::string(source.name) + ", ";
  }
  const std::string ranks = ranks_file_in(folder);
  if (!ranks.empty()) return load(folder, {ranks, parts_from_ranks_file});
  throw Error(ExitCode::kNotFound,
              "no tokenizer in " + folder + ": none of " + known + "*" + std::string(kRanksEnding), folder);
}

}  // namespace qtool
