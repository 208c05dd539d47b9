// Chat templates and conversations as files: which template a model folder has, and JSON -> the values it is
// given.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace qtool {

using NamedValues = std::vector<std::pair<std::string, jinja::Value>>;

struct NamedTemplate {
  std::string name;    // "default", "tool_use", ...
  std::string source;  // Jinja
  std::string file;    // where it was found, for errors
};

// The templates of a model folder: chat_template.jinja and additional_chat_templates/*.jinja, else
// `chat_template` of tokenizer_config.json (one, or a list of {name, template}), else chat_template.json.
// Errors: kMalformed.
std::vector<NamedTemplate> read_chat_templates(const std::string& folder);

// The one that transformers takes: `tool_use` where there are tools, else `default`. nullptr: the folder has
// none. Errors: kUsage where there are several and none is the default.
const NamedTemplate* choose_chat_template(const std::vector<NamedTemplate>& templates, bool has_tools);

// bos_token, eos_token and the other tokens with a name, as templates know them. Errors: kMalformed.
NamedValues read_special_tokens(const std::string& folder);

// A conversation: `messages`, and what came with it (tools, documents, ...).
struct Conversation {
  jinja::Value messages;
  NamedValues names;
};

// JSON: a list of messages, or an object whose `messages` is one. Errors: kNotFound, kIo, kMalformed.
Conversation read_conversation(const std::string& path);

// A JSON object's entries, in their order. Errors: kMalformed.
NamedValues named_values(std::string_view json, const std::string& what);

}  // namespace qtool
