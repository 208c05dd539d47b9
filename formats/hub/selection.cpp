#include "formats/hub/selection.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/model_files.h"

namespace qtool {
namespace {

constexpr std::string_view kConfigs[] = {"config.json", "adapter_config.json"};
constexpr std::string_view kTokenizers[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
constexpr const char* kIndexSuffix = ".index.json";
constexpr const char* kSafetensors = "model.safetensors";
constexpr const char* kPickle = "pytorch_model.bin";
constexpr const char* kAdapter = "adapter_model.safetensors";
constexpr std::string_view kTemplates = "additional_chat_templates/";

bool any_of(const std::set<std::string>& names, std::span<const std::string_view> wanted) {
  return std::any_of(wanted.begin(), wanted.end(),
                     [&](std::string_view name) { return names.contains(std::string(name)); });
}

// A file of weights under a name of its own. Shards are none: one of them alone is not the model.
bool is_other_weights(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string::npos && name[0] != '_' &&
         !name.starts_with("consolidated") && !name.starts_with("adapter_") &&
         name.find("-of-") == std::string::npos;
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  std::error_code failure;
  for (std::filesystem::directory_iterator at(folder, failure), end; !failure && at != end;
       at.increment(failure))
    if (exists(at->path().string()))
      names.insert(at->path().filename().string());  // not for a link to nothing
  return names;
}

}  // namespace

bool is_small_model_file(const std::string& path) {
  if (path.starts_with(kTemplates))
    return path.ends_with(".jinja") && path.find('/', kTemplates.size()) == std::string::npos;
  return std::find(std::begin(kConfigs), std::end(kConfigs), path) != std::end(kConfigs) ||
         is_copied_file(path);
}

WeightChoice weight_files(const std::set<std::string>& names) {
  const std::string index = std::string(kSafetensors) + kIndexSuffix;
  if (names.contains(kSafetensors)) return {"", {kSafetensors}};
  if (names.contains(index)) return {index, {}};
  std::vector<std::string> others;
  std::copy_if(names.begin(), names.end(), std::back_inserter(others), is_other_weights);
  if (others.size() == 1) return {"", others};
  const std::string pickle_index = std::string(kPickle) + kIndexSuffix;
  if (names.contains(kPickle)) return {"", {kPickle}};
  if (names.contains(pickle_index)) return {pickle_index, {}};
  if (names.contains(kAdapter)) return {"", {kAdapter}};
  return {};
}

std::vector<std::string> shards_of(const std::string& index_path) {
  const Json index = read_json_file(index_path, kIndexJson);
  const auto fail = [&](const std::string& sentence) {
    throw Error(ExitCode::kMalformed, escaped(index_path) + ": " + sentence, index_path);
  };
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail("has no object 'weight_map'");
  std::set<std::string> shards;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!is_safe_path(name) || name.find('/') != std::string::npos)
      fail("tensor '" + escaped(tensor) + "' lies in no file beside it");
    shards.insert(name);
  }
  return {shards.begin(), shards.end()};
}

Holdings holdings_of(const std::string& folder) {
  const std::set<std::string> names = names_in(folder);
  const WeightChoice weights = weight_files(names);
  const bool has_ranks = std::any_of(names.begin(), names.end(),
                                     [](const std::string& name) { return name.ends_with(".tiktoken"); });
  Holdings held{any_of(names, kConfigs), any_of(names, kTokenizers) || has_ranks, !weights.files.empty()};
  if (!weights.index.empty()) {
    const std::vector<std::string> shards = shards_of(folder + "/" + weights.index);
    held.weights = std::all_of(shards.begin(), shards.end(),
                               [&](const std::string& shard) { return names.contains(shard); });
  }
  return held;
}

}  // namespace qtool
