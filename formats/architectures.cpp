#include "formats/architectures.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/model/plan.h"
#include "formats/architecture_row.h"
#include "formats/families/families.h"

namespace qtool {
namespace {

// Multimodal models whose language model, given text alone, is one of ours as it stands. `language` is what a
// 'text_config' without a model_type means.
struct Wrapper {
  std::string_view model_type, language;
};
constexpr Wrapper kWrappers[] = {{"aya_vision", "cohere2"},    {"gemma3", "gemma3_text"},
                                 {"idefics3", "llama"},        {"internvl", "qwen2"},
                                 {"llava", "llama"},           {"llava_next", "llama"},
                                 {"llava_onevision", "qwen2"}, {"mistral3", "mistral"},
                                 {"smolvlm", "llama"},         {"vipllava", "llama"}};

const Wrapper* wrapper_of(const Json& config) {
  if (!config.is_object() || !config.contains("text_config") || !config["text_config"].is_object())
    return nullptr;
  const std::string model_type = optional_string(config, "model_type", "", "config.json");
  for (const Wrapper& wrapper : kWrappers)
    if (wrapper.model_type == model_type) return &wrapper;
  return nullptr;
}

bool contains(const std::vector<std::string_view>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string list_of_known() {
  std::string list;
  for (const std::string& name : known_architectures()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void fill_in(Json& config, const Json& whole, const char* key) {
  const auto found = whole.find(key);
  if (found != whole.end() && !found->is_null() && (!config.contains(key) || config[key].is_null()))
    config[key] = *found;
}

}  // namespace

Json language_config(const Json& config) {
  const Wrapper* const wrapper = wrapper_of(config);
  if (!wrapper) return config;
  Json language = config["text_config"];
  if (!language.contains("model_type") || language["model_type"].is_null())
    language["model_type"] = std::string(wrapper->language);
  // The parts' own classes are not what the whole was saved as.
  language.erase("architectures");
  // Generation follows the whole.
  for (const char* key : {"eos_token_id", "bos_token_id"})
    if (config.contains(key) && !config[key].is_null()) language[key] = config[key];
  for (const char* key : {"dtype", "torch_dtype", "tie_word_embeddings", "quantization_config"})
    fill_in(language, config, key);
  return language;
}

const Architecture& architecture_of(const Json& whole) {
  if (!whole.is_object()) throw Error(ExitCode::kMalformed, "config.json: must be an object");
  const Json config = language_config(whole);
  const ConfigReader reader(config);
  const std::string model_type = reader.text({"model_type"}, "");
  const std::vector<std::string> classes = reader.texts({"architectures"});
  if (model_type.empty() && classes.empty())
    reader.malformed("neither 'model_type' nor 'architectures' says what model this is");
  // As transformers: model_type decides; the class only says whether it is the language model of that type.
  for (const Architecture* row : families()) {
    const bool type_fits = model_type.empty() || model_type == row->model.model_type;
    const bool class_fits =
        classes.empty() || std::any_of(classes.begin(), classes.end(), [&](const std::string& name) {
          return contains(row->class_names, name);
        });
    if (type_fits && class_fits) return *row;
  }
  throw Error(ExitCode::kUnsupported,
              "architecture '" + escaped(classes.empty() ? model_type : classes.front()) + "' (model_type '" +
                  escaped(model_type) + "') is not supported; qtool knows " + list_of_known());
}

std::int64_t transformers_buffer_bytes(const ModelSpec& spec) {
  for (const Architecture* row : families()) {
    if (row->model.model_type != spec.model_type) continue;
    std::int64_t bytes = rotary_buffer_bytes(spec.rope.rotary_dim);
    if (spec.local_rope) bytes += rotary_buffer_bytes(spec.local_rope->rotary_dim);
    return row->more_buffers ? bytes + row->more_buffers(spec) : bytes;
  }
  throw internal_error("a model of a type without a row");
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture* row : families()) names.emplace_back(row->class_names.front());
  return names;
}

}  // namespace qtool
