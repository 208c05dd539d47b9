#include "formats/architectures.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/architecture_row.h"

namespace qtool {
namespace {

// --- Llama: Llama 1 to 3.x, TinyLlama, CodeLlama, SmolLM2, Yi, DeepSeek-LLM, ...

constexpr std::array<std::string_view, 2> kLlamaClasses{"LlamaForCausalLM", "LLaMAForCausalLM"};
constexpr std::array<ModuleName, 12> kLlamaModules{{
    {Role::kEmbedding, "model.embed_tokens"},
    {Role::kInputNorm, "model.layers.{}.input_layernorm"},
    {Role::kQuery, "model.layers.{}.self_attn.q_proj"},
    {Role::kKey, "model.layers.{}.self_attn.k_proj"},
    {Role::kValue, "model.layers.{}.self_attn.v_proj"},
    {Role::kAttentionOutput, "model.layers.{}.self_attn.o_proj"},
    {Role::kMlpNorm, "model.layers.{}.post_attention_layernorm"},
    {Role::kGate, "model.layers.{}.mlp.gate_proj"},
    {Role::kUp, "model.layers.{}.mlp.up_proj"},
    {Role::kDown, "model.layers.{}.mlp.down_proj"},
    {Role::kFinalNorm, "model.norm"},
    {Role::kHead, "lm_head"},
}};
constexpr std::array<std::string_view, 2> kLlamaIgnored{"model.layers.{}.self_attn.rotary_emb.inv_freq",
                                                        "model.rotary_emb.inv_freq"};

constexpr std::array<Architecture, 1> kArchitectures{{
    {.model_type = "llama",
     .class_names = kLlamaClasses,
     .modules = kLlamaModules,
     .ignored = kLlamaIgnored,
     .qkv_bias_key = "attention_bias",
     .attention_output_bias_key = "attention_bias",
     .mlp_bias_key = "mlp_bias",
     .partial_rotary = false,
     .tied_head = false,
     .norm_eps = 1e-6,
     .rope_theta = 10000.0,
     .max_positions = 2048,
     .bos_id = 1,
     .eos_id = 2},
}};

// If `text` is `pattern`, which may hold one "{}": the number in its place, or -1 without one.
std::optional<int> match(std::string_view pattern, std::string_view text) {
  const auto hole = pattern.find("{}");
  if (hole == std::string_view::npos) return pattern == text ? std::optional(-1) : std::nullopt;
  const std::string_view head = pattern.substr(0, hole);
  const std::string_view tail = pattern.substr(hole + 2);
  if (text.size() <= head.size() + tail.size() || text.substr(0, head.size()) != head ||
      text.substr(text.size() - tail.size()) != tail)
    return std::nullopt;
  const std::string_view digits = text.substr(head.size(), text.size() - head.size() - tail.size());
  int number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  // "01" and "+1" name no layer that anything else would find
  if (error != std::errc() || end != digits.data() + digits.size() || std::to_string(number) != digits ||
      number < 0)
    return std::nullopt;
  return number;
}

bool contains(std::span<const std::string_view> names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string list_of_known() {
  std::string list;
  for (const std::string& name : known_architectures()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::vector<std::string> class_names_in(const Json& config) {
  std::vector<std::string> names;
  const auto found = config.find("architectures");
  if (found == config.end() || found->is_null()) return names;
  if (!found->is_array())
    throw Error(ExitCode::kMalformed, "config.json: 'architectures' must be a list of names");
  for (const Json& name : *found) {
    if (!name.is_string())
      throw Error(ExitCode::kMalformed, "config.json: 'architectures' must be a list of names");
    names.push_back(name.get<std::string>());
  }
  return names;
}

}  // namespace

const Architecture& architecture_of(const Json& config) {
  if (!config.is_object()) throw Error(ExitCode::kMalformed, "config.json: must be an object");
  const std::string model_type = optional_string(config, "model_type", "", "config.json");
  const std::vector<std::string> classes = class_names_in(config);
  if (model_type.empty() && classes.empty())
    throw Error(ExitCode::kMalformed,
                "config.json: neither 'model_type' nor 'architectures' says what model this is");
  // As transformers: model_type decides; the class only says whether it is the language model of that type.
  for (const Architecture& row : kArchitectures) {
    const bool type_fits = model_type.empty() || model_type == row.model_type;
    const bool class_fits =
        classes.empty() || std::any_of(classes.begin(), classes.end(), [&](const std::string& name) {
          return contains(row.class_names, name);
        });
    if (type_fits && class_fits) return row;
  }
  throw Error(ExitCode::kUnsupported,
              "architecture '" + escaped(classes.empty() ? model_type : classes.front()) + "' (model_type '" +
                  escaped(model_type) + "') is not supported; qtool knows " + list_of_known());
}

std::optional<TensorRole> role_of(const Architecture& architecture, std::string_view name) {
  for (const std::string_view pattern : architecture.ignored)
    if (const auto layer = match(pattern, name)) return TensorRole{Role::kIgnored, *layer, Piece::kWeight};
  for (const auto& [suffix, piece] : {std::pair(std::string_view(".weight"), Piece::kWeight),
                                      std::pair(std::string_view(".bias"), Piece::kBias)}) {
    if (name.size() <= suffix.size() || name.substr(name.size() - suffix.size()) != suffix) continue;
    const std::string_view module = name.substr(0, name.size() - suffix.size());
    for (const ModuleName& row : architecture.modules)
      if (const auto layer = match(row.name, module)) return TensorRole{row.role, *layer, piece};
  }
  return std::nullopt;
}

std::string module_name(const Architecture& architecture, Role role, int layer) {
  for (const ModuleName& row : architecture.modules) {
    if (row.role != role) continue;
    std::string name(row.name);
    if (const auto hole = name.find("{}"); hole != std::string::npos)
      name.replace(hole, 2, std::to_string(layer));
    return name;
  }
  throw internal_error("an architecture without the role that was asked for");
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture& row : kArchitectures) names.emplace_back(row.class_names.front());
  return names;
}

}  // namespace qtool
