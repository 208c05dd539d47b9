#include "formats/chat_template_files.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/limits.h"
#include "formats/file.h"
#include "formats/json.h"

namespace qtool {
namespace {

using jinja::Value;

// Builds values from the parser's events: nlohmann's own objects would sort the keys, and templates print
// them in the order of the file. parse_json() has checked the text before.
class ValueBuilder {
 public:
  explicit ValueBuilder(const std::string& what) : what_(what) {}
  Value take() { return std::move(root_); }

  bool null() { return put(Value()); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) {
    if (value > std::uint64_t{INT64_MAX}) refuse_integer(std::to_string(value));
    return put(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& digits) {
    if (digits.find_first_of(".eE") == std::string::npos) refuse_integer(digits);
    return put(value);
  }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }  // not in JSON text
  bool start_object(std::size_t /*size*/) { return open(true); }
  bool start_array(std::size_t /*size*/) { return open(false); }
  bool key(std::string& name) {
    open_.back().key = std::move(name);
    return true;
  }
  bool end_array() {
    std::vector<Value> items = std::move(open_.back().items);
    open_.pop_back();
    return put(jinja::make_list(std::move(items)));
  }
  bool end_object() {
    std::vector<std::pair<Value, Value>> entries = std::move(open_.back().entries);
    open_.pop_back();
    return put(jinja::make_dict(std::move(entries)));
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) {
    throw internal_error("JSON that was parsed before is not JSON");
  }

 private:
  struct Container {
    bool is_object;
    std::string key;
    std::vector<Value> items;
    std::vector<std::pair<Value, Value>> entries;
  };

  bool open(bool is_object) {
    open_.push_back({is_object, {}, {}, {}});
    return true;
  }

  bool put(Value value) {
    if (open_.empty())
      root_ = std::move(value);
    else if (open_.back().is_object)
      open_.back().entries.emplace_back(std::move(open_.back().key), std::move(value));
    else
      open_.back().items.push_back(std::move(value));
    return true;
  }

  [[noreturn]] void refuse_integer(const std::string& digits) const {
    throw Error(ExitCode::kUnsupported,
                what_ + ": the integer " + digits.substr(0, 60) + " does not fit 64 bits");
  }

  const std::string& what_;
  Value root_;
  std::vector<Container> open_;
};

Value value_from_json(std::string_view text, const std::string& what) {
  parse_json(text, what);  // says what is wrong and where
  ValueBuilder builder(what);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

NamedValues entries_of(const Value& object) {
  NamedValues named;
  for (const auto& [key, value] : object.dict()->entries) named.emplace_back(*key.text(), value);
  return named;
}

Json read_if_there(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  if (!exists(path)) return Json::object();
  Json document = read_json_file(path, kTokenizerJson);
  if (!document.is_object()) throw Error(ExitCode::kMalformed, name + " must hold an object", path);
  return document;
}

// `chat_template` of a JSON file: one template, or a list of {name, template}.
std::vector<NamedTemplate> templates_in(const Json& config, const std::string& file) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return {{"default", found->get<std::string>(), file}};
  const auto malformed = [&file](const std::string& sentence) {
    return Error(ExitCode::kMalformed, file + ": 'chat_template' " + sentence);
  };
  if (!found->is_array()) throw malformed("must be a string or a list of objects with name and template");
  std::vector<NamedTemplate> templates;
  for (const Json& row : *found) {
    const auto is_text = [&row](const char* key) { return row.contains(key) && row[key].is_string(); };
    if (!row.is_object() || !is_text("name") || !is_text("template"))
      throw malformed("has an entry without a name or a template");
    templates.push_back({row["name"].get<std::string>(), row["template"].get<std::string>(), file});
  }
  return templates;
}

std::vector<NamedTemplate> template_files(const std::string& folder) {
  std::vector<NamedTemplate> templates;
  const auto add = [&](const std::string& name, const std::string& file) {
    templates.push_back({name, read_file(folder + "/" + file, std::int64_t{kMaxTemplateBytes}), file});
  };
  if (exists(folder + "/chat_template.jinja")) add("default", "chat_template.jinja");
  const std::string more = "additional_chat_templates";
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/" + more, failure))
    if (entry.path().extension() == ".jinja") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) add(name, more + "/" + name + ".jinja");
  return templates;
}

}  // namespace

std::vector<NamedTemplate> read_chat_templates(const std::string& folder) {
  std::vector<NamedTemplate> templates = template_files(folder);
  for (const char* file : {"tokenizer_config.json", "chat_template.json"})
    if (templates.empty()) templates = templates_in(read_if_there(folder, file), file);
  return templates;
}

const NamedTemplate* choose_chat_template(const std::vector<NamedTemplate>& templates, bool has_tools) {
  const auto named = [&templates](const char* name) -> const NamedTemplate* {
    const auto found = std::find_if(templates.begin(), templates.end(),
                                    [name](const NamedTemplate& one) { return one.name == name; });
    return found == templates.end() ? nullptr : &*found;
  };
  if (templates.empty()) return nullptr;
  if (has_tools)
    if (const NamedTemplate* tool_use = named("tool_use")) return tool_use;
  if (const NamedTemplate* plain = named("default")) return plain;
  std::string names;
  for (const NamedTemplate& one : templates) names += (names.empty() ? "" : ", ") + escaped(one.name);
  throw Error(ExitCode::kUsage,
              "this model has several chat templates and none is the default; choose one with "
              "--chat-template: " +
                  names);
}

NamedValues read_special_tokens(const std::string& folder) {
  constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
  NamedValues tokens;
  const Json config = read_if_there(folder, "tokenizer_config.json");
  const Json map = read_if_there(folder, "special_tokens_map.json");
  for (const char* name : kNames) {
    const Json* given = nullptr;
    for (const Json* source : {&map, &config})
      if (source->contains(name) && !(*source)[name].is_null()) given = &(*source)[name];
    if (!given) continue;
    if (given->is_object() && given->contains("content")) given = &(*given)["content"];
    if (!given->is_string())
      throw Error(ExitCode::kMalformed,
                  std::string("tokenizer_config.json: '") + name + "' must be a string");
    tokens.emplace_back(name, given->get<std::string>());
  }
  return tokens;
}

Conversation read_conversation(const std::string& path) {
  const Value document = value_from_json(read_input(path, kMaxConversationBytes), path);
  if (document.list()) return {document, {}};
  const auto wrong = [&] {
    return Error(ExitCode::kMalformed, path + ": must hold a list of messages, or an object with 'messages'",
                 path);
  };
  if (!document.dict()) throw wrong();
  Conversation conversation;
  for (auto& [name, value] : entries_of(document)) {
    if (name == "messages")
      conversation.messages = value;
    else
      conversation.names.emplace_back(name, value);
  }
  if (!conversation.messages.list()) throw wrong();
  return conversation;
}

NamedValues named_values(std::string_view json, const std::string& what) {
  const Value document = value_from_json(json, what);
  if (!document.dict())
    throw Error(ExitCode::kMalformed, what + ": must be an object such as {\"name\": true}");
  return entries_of(document);
}

}  // namespace qtool
