// qtool inspect: the whole model at a glance.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "cmd/inspect.h"
#include "cmd/inspect_svg.h"
#include "cmd/table.h"
#include "formats/file.h"
#include "formats/quant_config.h"
#include "formats/tokenizers.h"

namespace qtool {
namespace {

std::string_view name_of(RopeType type) {
  switch (type) {
    case RopeType::kDefault:
      return "default";
    case RopeType::kLinear:
      return "linear";
    case RopeType::kDynamic:
      return "dynamic";
    case RopeType::kLlama3:
      return "llama3";
    case RopeType::kYarn:
      return "yarn";
    case RopeType::kLongRope:
      return "longrope";
  }
  return "?";
}

// Does any layer rotate by the model's one table for all?
bool rotates(const ModelSpec& spec) {
  return spec.by_layer.empty() ||
         std::any_of(spec.by_layer.begin(), spec.by_layer.end(),
                     [](const LayerSpec& layer) { return layer.rope == LayerRope::kGlobal; });
}

// How the model tells positions apart: "rope default, theta 10000".
std::string positions_of(const ModelSpec& spec) {
  std::string text;
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  if (rotates(spec))
    add("rope " + std::string(name_of(spec.rope.type)) + ", theta " + shortened(spec.rope.theta));
  if (spec.learned_positions) add("learned");
  if (spec.alibi != Alibi::kNone) add("ALiBi");
  std::int64_t window = 0;
  int sliding = 0;
  for (const LayerSpec& layer : spec.by_layer) {
    window = std::max(window, layer.window);
    sliding += layer.window > 0 ? 1 : 0;
  }
  if (sliding > 0)
    add("window " + grouped(window) + (sliding < spec.layers ? " in " + grouped(sliding) + " layers" : ""));
  return text;
}

// "MLP size 14,336" or "8 experts of size 14,336, 2 a token"
std::string mlp_of(const ModelSpec& spec) {
  const bool some = std::any_of(spec.by_layer.begin(), spec.by_layer.end(),
                                [](const LayerSpec& layer) { return layer.experts; });
  if (!some) return "MLP size " + grouped(spec.intermediate_size);
  return grouped(spec.experts.experts) + " experts of size " + grouped(spec.experts.intermediate_size) +
         ", " + grouped(spec.experts.chosen) + " a token";
}

// "model.layers.3.mlp.up_proj.weight" -> "model.layers.#.mlp.up_proj.weight"
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](unsigned char c) { return std::isdigit(c) != 0; });
    pattern += (begin > 0 ? "." : "") + (number ? "#" : part);
    begin = end + 1;
  }
  return pattern;
}

// One section in both forms: lines for people, a value for programs.
struct Section {
  std::string title;
  std::string text;
  std::string key;
  Json value;
};

Section model_section(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors) {
  std::int64_t parameters = 0;
  for (const LogicalTensor& tensor : tensors) parameters += tensor.count();
  Table table({{""}, {""}});
  Json value{{"parameters", parameters}};
  char millions[32];
  std::snprintf(millions, sizeof millions, " (%.3g %s)",
                static_cast<double>(parameters) / (parameters < 1e9 ? 1e6 : 1e9),
                parameters < 1e9 ? "M" : "B");
  try {
    const ModelSpec spec = model_spec_of(checkpoint);
    const auto number = [](std::int64_t n) { return grouped(n); };
    table.add({"architecture", spec.architecture});
    table.add({"parameters", grouped(parameters) + millions});
    table.add(
        {"layers", number(spec.layers) + ", hidden size " + number(spec.hidden_size) + ", " + mlp_of(spec)});
    table.add({"attention", number(spec.heads) + " heads of " + number(spec.head_dim) + ", " +
                                number(spec.kv_heads) + " for keys and values"});
    table.add({"positions", number(spec.max_positions) + ", " + positions_of(spec)});
    table.add({"vocabulary", number(spec.vocab_size) + (spec.tied_head ? ", output head tied to the embedding"
                                                                       : ", output head of its own")});
    table.add({"dtype", std::string(info(spec.dtype).torch_name)});
    value.update({{"architecture", spec.architecture},
                  {"model_type", spec.model_type},
                  {"layers", spec.layers},
                  {"hidden_size", spec.hidden_size},
                  {"intermediate_size", spec.intermediate_size},
                  {"heads", spec.heads},
                  {"kv_heads", spec.kv_heads},
                  {"head_dim", spec.head_dim},
                  {"max_positions", spec.max_positions},
                  {"rope", rotates(spec) ? Json{{"type", name_of(spec.rope.type)}, {"theta", spec.rope.theta}}
                                         : Json(nullptr)},
                  {"vocab_size", spec.vocab_size},
                  {"tied_head", spec.tied_head},
                  {"dtype", info(spec.dtype).torch_name},
                  {"eos_ids", spec.eos_ids}});
  } catch (
      const Error&) {  // the sentence is among the problems; here what can be said without knowing the family
    std::string architecture = "unknown";
    const Json& config = checkpoint.config();
    if (config.contains("architectures") && config["architectures"].is_array() &&
        !config["architectures"].empty() && config["architectures"][0].is_string())
      architecture = config["architectures"][0].get<std::string>();
    table.add({"architecture", escaped(architecture) + " (see problems)"});
    table.add({"parameters", grouped(parameters) + millions});
    value["architecture"] = architecture;
  }
  return {"Model", table.text(2), "model", value};
}

Section quantization_section(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors) {
  std::map<std::string, std::int64_t> forms;
  std::int64_t quantized = 0, values = 0, bytes = 0, all_values = 0;
  int block_size = 0;
  for (const LogicalTensor& tensor : tensors) {
    all_values += tensor.count();
    if (!tensor.quant) continue;
    ++forms[tensor.form()];
    ++quantized;
    values += tensor.count();
    bytes += tensor.bytes;
    if (tensor.quant->method == QuantMethod::kBlock4) block_size = tensor.quant->block_size;
  }
  const auto bits = [](std::int64_t of_bytes, std::int64_t of_values) {
    return of_values > 0 ? 8.0 * static_cast<double>(of_bytes) / static_cast<double>(of_values) : 0.0;
  };
  char text[64];
  const double overall = bits(checkpoint.bytes(), all_values);
  if (quantized == 0) {
    std::snprintf(text, sizeof text, "  none, %.4g bits per parameter\n", overall);
    return {"Quantization", text, "quantization", nullptr};
  }
  std::string stored;
  for (const auto& [form, count] : forms)
    stored +=
        (stored.empty() ? "" : ", ") + form + " (" + grouped(count) + (count == 1 ? " weight)" : " weights)");
  Table table({{""}, {""}});
  table.add({"stored", stored});
  std::snprintf(text, sizeof text, "%.4g a quantized weight, %.4g overall", bits(bytes, values), overall);
  table.add({"bits", text});
  Json value{{"forms", forms},
             {"quantized", quantized},
             {"bits_per_quantized_weight", bits(bytes, values)},
             {"bits_per_parameter", overall}};
  if (block_size > 0) {
    table.add({"block size", std::to_string(block_size)});
    value["block_size"] = block_size;
  }
  try {
    if (const auto config = quant_config_of(checkpoint.config())) {
      const QuantSpec& spec = config->spec;
      value["scheme"] = scheme_name(spec);
      value["skip_modules"] = config->skip_modules;
      if (spec.method == QuantMethod::kBlock4) {
        table.add({"compute dtype", std::string(info(spec.compute_dtype).torch_name)});
        table.add({"storage", std::string(info(spec.storage).torch_name)});
        value["compute_dtype"] = info(spec.compute_dtype).torch_name;
        value["storage"] = info(spec.storage).torch_name;
      } else {
        table.add({"threshold", shortened(static_cast<double>(spec.int8_threshold))});
        value["threshold"] = spec.int8_threshold;
      }
      std::string skipped;
      for (const std::string& name : config->skip_modules)
        skipped += (skipped.empty() ? "" : ", ") + escaped(name);
      table.add({"skip modules", skipped.empty() ? "the loader's own choice" : skipped});
    }
  } catch (const Error&) {  // among the problems
    value["scheme"] = nullptr;
  }
  return {"Quantization", table.text(2), "quantization", value};
}

Section sizes_section(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors) {
  struct Size {
    std::int64_t tensors = 0, parameters = 0, bytes = 0;
  };
  std::vector<std::pair<std::string, Size>> classes;
  const Architecture* const architecture = known_architecture(checkpoint);
  for (const LogicalTensor& tensor : tensors) {
    const auto role = architecture != nullptr ? role_of(*architecture, tensor.name) : std::nullopt;
    const std::string name(class_of(role ? role->role : Role::kIgnored));
    auto at =
        std::find_if(classes.begin(), classes.end(), [&](const auto& row) { return row.first == name; });
    if (at == classes.end()) at = classes.insert(classes.end(), {name, {}});
    ++at->second.tensors;
    at->second.parameters += tensor.count();
    at->second.bytes += tensor.bytes;
  }
  std::stable_sort(classes.begin(), classes.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  Table table({{"class"},
               {"tensors", Align::kRight},
               {"parameters", Align::kRight},
               {"bytes", Align::kRight},
               {"share", Align::kRight}});
  Json value = Json::array();
  const auto row = [&](const std::string& name, const Size& size) {
    char share[16];
    std::snprintf(share, sizeof share, "%.1f %%",
                  100.0 * static_cast<double>(size.bytes) /
                      static_cast<double>(std::max<std::int64_t>(1, checkpoint.bytes())));
    table.add({name, grouped(size.tensors), grouped(size.parameters), grouped(size.bytes), share});
  };
  Size sum;
  for (const auto& [name, size] : classes) {
    row(name, size);
    value.push_back(
        {{"class", name}, {"tensors", size.tensors}, {"parameters", size.parameters}, {"bytes", size.bytes}});
    sum = {sum.tensors + size.tensors, sum.parameters + size.parameters, sum.bytes + size.bytes};
  }
  row("all", sum);
  return {"Sizes", table.text(2), "sizes", value};
}

Section layers_section(const std::vector<LogicalTensor>& tensors) {
  struct Row {
    std::string pattern, form, shape;
    std::int64_t count = 0, bytes = 0;
  };
  std::vector<Row> rows;
  std::map<std::string, std::size_t> place;
  for (const LogicalTensor& tensor : tensors) {
    const Row row{pattern_of(tensor.name), tensor.form(), text_of(tensor.shape), 0, 0};
    const auto [at, fresh] = place.try_emplace(row.pattern + " " + row.form + " " + row.shape, rows.size());
    if (fresh) rows.push_back(row);
    ++rows[at->second].count;
    rows[at->second].bytes += tensor.bytes;
  }
  Table table({{"tensor"}, {""}, {"stored"}, {"shape"}, {"bytes", Align::kRight}});
  Json value = Json::array();
  for (const Row& row : rows) {
    table.add({escaped(row.pattern), row.count > 1 ? "x" + std::to_string(row.count) : "", row.form,
               row.shape, grouped(row.bytes)});
    value.push_back({{"pattern", row.pattern},
                     {"count", row.count},
                     {"stored", row.form},
                     {"shape", row.shape},
                     {"bytes", row.bytes}});
  }
  return {"Layer pattern", table.text(2), "layers", value};
}

bool has_chat_template(const std::string& folder) {
  if (exists(folder + "/chat_template.jinja") || exists(folder + "/chat_template.json")) return true;
  const std::string config = folder + "/tokenizer_config.json";
  return exists(config) && read_json_file(config, kTokenizerJson).contains("chat_template");
}

Section tokenizer_section(const Checkpoint& checkpoint) {
  Section section{"Tokenizer", "", "tokenizer", nullptr};
  try {
    const auto tokenizer = load_tokenizer(checkpoint.folder());
    const auto token = [&](const std::optional<TokenId>& id) {
      return id ? escaped(tokenizer->token_text(*id).value_or("?")) + " (" + std::to_string(*id) + ")"
                : "none";
    };
    const bool chat = has_chat_template(checkpoint.folder());
    Table table({{""}, {""}});
    table.add({"kind", std::string(tokenizer->kind())});
    table.add({"vocabulary", grouped(tokenizer->vocab_size())});
    table.add({"begin, end", token(tokenizer->bos_id()) + ", " + token(tokenizer->eos_id())});
    table.add({"chat template", chat ? "yes" : "no"});
    section.text = table.text(2);
    section.value = {
        {"kind", tokenizer->kind()}, {"vocab_size", tokenizer->vocab_size()}, {"chat_template", chat}};
    section.value["bos_id"] = tokenizer->bos_id() ? Json(*tokenizer->bos_id()) : Json();
    section.value["eos_id"] = tokenizer->eos_id() ? Json(*tokenizer->eos_id()) : Json();
  } catch (const Error& error) {
    section.text = "  " + escaped(error.what()) + "\n";
  }
  return section;
}

Section files_section(const Checkpoint& checkpoint) {
  Table table({{""}, {"", Align::kRight}, {""}});
  Json value = Json::array();
  std::map<std::string, std::int64_t> counts;
  for (const auto& [name, stored] : checkpoint.tensors())
    ++counts[checkpoint.files()[static_cast<std::size_t>(stored.file)].path()];
  for (const InputFile& file : checkpoint.files()) {
    const std::string name = std::filesystem::path(file.path()).filename().string();
    table.add({escaped(name), grouped(file.size()), grouped(counts[file.path()]) + " tensors"});
    value.push_back({{"name", escaped(name)}, {"bytes", file.size()}, {"tensors", counts[file.path()]}});
  }
  for (const char* name : {"model.safetensors.index.json", "config.json", "generation_config.json",
                           "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}) {
    const std::string path = checkpoint.folder() + "/" + name;
    if (!exists(path)) continue;
    const std::int64_t size = InputFile(path).size();
    table.add({name, grouped(size), ""});
    value.push_back({{"name", name}, {"bytes", size}});
  }
  return {"Files", table.text(2), "files", value};
}

Section problems_section(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors) {
  Section section{"Problems", "", "problems", Json::array()};
  for (const Problem& problem : find_problems(checkpoint, tensors)) {
    section.text += "  " + std::string(word_of(problem)) + ": " + escaped(problem.message) + "\n";
    section.value.push_back({{"kind", word_of(problem)}, {"message", escaped(problem.message)}});
  }
  if (section.text.empty()) section.text = "  none without reading the weights; --verify reads them\n";
  return section;
}

}  // namespace

void print_summary(const Checkpoint& checkpoint, const std::string& svg, const CommonOptions& common) {
  const std::vector<LogicalTensor> tensors = logical_tensors(checkpoint);
  const Section sections[] = {model_section(checkpoint, tensors),   quantization_section(checkpoint, tensors),
                              sizes_section(checkpoint, tensors),   layers_section(tensors),
                              tokenizer_section(checkpoint),        files_section(checkpoint),
                              problems_section(checkpoint, tensors)};
  Json document{{"schema", "qtool.inspect/1"}, {"folder", escaped(checkpoint.folder())}};
  std::string text = escaped(checkpoint.folder()) + "\n";
  for (const Section& section : sections) {
    text += "\n" + section.title + "\n" + section.text;
    document[section.key] = section.value;
  }
  if (!svg.empty()) write_svg(svg, summary_svg(document));
  if (common.json)
    print_json(document);
  else
    print_out(text);
}

}  // namespace qtool
