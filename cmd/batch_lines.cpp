#include "cmd/batch_lines.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/text/utf8.h"

namespace qtool {
namespace {

// One value of a line, with its place and name for errors.
struct Field {
  const Json& value;
  std::string where;  // "line 7"
  std::string name;   // "'top_k'"

  [[noreturn]] void refuse(const std::string& what) const {
    const std::string shown = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    throw Error(ExitCode::kUsage, where + ": " + name + " must be " + what + ", is " +
                                      escaped(shown.size() > 60 ? shown.substr(0, 60) + "..." : shown));
  }
  double number() const {
    if (!value.is_number()) refuse("a number");
    return value.get<double>();
  }
  template <typename Integer>
  Integer integer() const {
    const std::string range = "an integer from " + std::to_string(std::numeric_limits<Integer>::min()) +
                              " to " + std::to_string(std::numeric_limits<Integer>::max());
    if (!value.is_number_integer()) refuse(range);
    const bool fits = value.is_number_unsigned() ? std::in_range<Integer>(value.get<std::uint64_t>())
                                                 : std::in_range<Integer>(value.get<std::int64_t>());
    if (!fits) refuse(range);
    return value.get<Integer>();
  }
  bool boolean() const {
    if (!value.is_boolean()) refuse("true or false");
    return value.get<bool>();
  }
  std::string text() const {
    if (!value.is_string()) refuse("a string");
    return value.get<std::string>();
  }
  // A list of what `read` reads; one value alone stands for a list of one, if `or_one`.
  template <typename Read>
  auto list(bool or_one, const Read& read) const {
    std::vector<decltype(read(*this))> values;
    if (or_one && !value.is_array()) {
      values.push_back(read(*this));
      return values;
    }
    if (!value.is_array()) refuse("a list");
    values.reserve(value.size());
    for (const Json& one : value) values.push_back(read(Field{one, where, "a value of " + name}));
    return values;
  }
};

std::vector<std::pair<std::int32_t, float>> biases_of(const Field& field) {
  if (!field.value.is_object()) field.refuse(R"(an object such as {"42": -1.5, "7": "-inf"})");
  std::vector<std::pair<std::int32_t, float>> biases;
  for (const auto& [key, value] : field.value.items()) {
    std::int32_t id = 0;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failure != std::errc() || end != key.data() + key.size())
      throw Error(ExitCode::kUsage,
                  field.where + ": " + field.name + ": '" + escaped(key.substr(0, 60)) + "' is no token id");
    const bool forbids = value.is_string() && value.get_ref<const std::string&>() == "-inf";
    if (!forbids && !value.is_number()) field.refuse("an object of numbers, or \"-inf\"");
    biases.emplace_back(
        id, forbids ? -std::numeric_limits<float>::infinity() : static_cast<float>(value.get<double>()));
  }
  return biases;
}

template <auto kMember>
void set_sampling(const Field& field, ContinueOptions& options) {
  using Value = std::remove_reference_t<decltype(options.sampling.*kMember)>;
  if constexpr (std::is_floating_point_v<Value>)
    options.sampling.*kMember = field.number();
  else
    options.sampling.*kMember = field.integer<Value>();
}

// As set_sampling(), for what only sampling heeds.
template <auto kMember>
void ask_sampling(const Field& field, ContinueOptions& options) {
  set_sampling<kMember>(field, options);
  options.sampling_asked = true;
}

template <auto kMember>
void set_integer(const Field& field, ContinueOptions& options) {
  options.*kMember = field.integer<std::int64_t>();
}

struct Key {
  std::string_view name;
  void (*set)(const Field& field, ContinueOptions& options);  // null: read elsewhere
};

// In the order in which they are read: `sample` has the last word on whether to sample.
constexpr Key kKeys[] = {
    {"prompt", nullptr},
    {"messages", nullptr},
    {"tools", nullptr},
    {"documents", nullptr},
    {"chat_template_kwargs", nullptr},
    {"prompt_tokens", nullptr},
    {"id", nullptr},
    {"max_new_tokens", set_integer<&ContinueOptions::max_new_tokens>},
    {"temperature", ask_sampling<&SamplingParams::temperature>},
    {"top_k", ask_sampling<&SamplingParams::top_k>},
    {"top_p", ask_sampling<&SamplingParams::top_p>},
    {"min_p", ask_sampling<&SamplingParams::min_p>},
    {"typical_p", ask_sampling<&SamplingParams::typical_p>},
    {"repetition_penalty", set_sampling<&SamplingParams::repetition_penalty>},
    {"no_repeat_ngram_size", set_sampling<&SamplingParams::no_repeat_ngram>},
    {"seed", set_sampling<&SamplingParams::seed>},
    {"sample",
     [](const Field& field, ContinueOptions& options) {
       options.sampling.sample = options.sampling_asked = field.boolean();
     }},
    {"logit_bias",
     [](const Field& field, ContinueOptions& options) { options.sampling.logit_bias = biases_of(field); }},
    {"stop",
     [](const Field& field, ContinueOptions& options) {
       options.stop = field.list(true, [](const Field& one) { return one.text(); });
     }},
    {"stop_token",
     [](const Field& field, ContinueOptions& options) {
       options.stop_tokens =
           field.list(true, [](const Field& one) { return std::int64_t{one.integer<std::int32_t>()}; });
     }},
    {"ignore_eos",
     [](const Field& field, ContinueOptions& options) { options.ignore_eos = field.boolean(); }},
    {"logprobs", set_integer<&ContinueOptions::logprobs>},
    {"prompt_logprobs", set_integer<&ContinueOptions::prompt_logprobs>},
};

// parse_json() says "line 7:1:12: ..."; of a text that is one line, only the column is news.
Json parse_line(const std::string& text, const std::string& where) {
  try {
    return parse_json(text, where);
  } catch (const Error& error) {
    const std::string sentence = error.what(), prefix = where + ":1:";
    if (!sentence.starts_with(prefix)) throw;
    throw Error(error.code(), where + ", column " + sentence.substr(prefix.size()));
  }
}

// What the template is given of a line. Templates print objects in the order of their text, which Json does
// not keep.
Conversation conversation_in(const std::string& text, const std::string& where) {
  using OrderedJson = nlohmann::ordered_json;
  const OrderedJson line = OrderedJson::parse(text);
  OrderedJson given = OrderedJson::object();
  for (const char* key : {"messages", "tools", "documents", "chat_template_kwargs"})
    if (const auto found = line.find(key); found != line.end()) given[key] = *found;
  Conversation conversation;
  for (auto& [name, value] : named_values(given.dump(), where)) {
    if (name == "messages") conversation.messages = value;
    if (name == "tools" || name == "documents") conversation.names.emplace_back(name, value);
    if (name != "chat_template_kwargs" || value.is_none()) continue;
    if (!value.dict()) throw Error(ExitCode::kUsage, where + ": 'chat_template_kwargs' must be an object");
    for (const auto& [key, inner] : value.dict()->entries)
      conversation.names.emplace_back(std::string(*key.text()), inner);
  }
  if (!conversation.messages.list())
    throw Error(ExitCode::kUsage, where + ": 'messages' must be a list of objects with role and content");
  return conversation;
}

}  // namespace

BatchLine parse_batch_line(std::string_view text, const ContinueOptions& defaults, const std::string& where,
                           std::optional<Json>& id) {
  if (!is_valid_utf8(text)) throw Error(ExitCode::kMalformed, where + " is not valid UTF-8");
  Json document = parse_line(std::string(text), where);
  if (document.is_string()) document = Json{{"prompt", std::move(document)}};
  if (!document.is_object())
    throw Error(ExitCode::kUsage, where +
                                      " must be a JSON object with prompt, messages or prompt_tokens, "
                                      "or a string");
  const auto given = [&document](std::string_view key) {
    const auto found = document.find(key);
    return found == document.end() || found->is_null() ? nullptr : &*found;
  };
  if (const Json* value = given("id")) id = *value;
  for (const auto& [name, value] : document.items()) {
    const auto is_it = [&name = name](const Key& key) { return key.name == name; };
    if (std::none_of(std::begin(kKeys), std::end(kKeys), is_it))
      throw Error(ExitCode::kUsage, where + ": there is no key '" + escaped(name.substr(0, 60)) +
                                        "'; 'qtool generate --help' lists them");
  }
  const auto field = [&where](const Json& value, std::string_view key) {
    return Field{value, where, "'" + std::string(key) + "'"};
  };

  BatchLine line;
  line.options = defaults;
  const Json* const prompt = given("prompt");
  const Json* const messages = given("messages");
  const Json* const ids = given("prompt_tokens");
  if ((prompt != nullptr) + (messages != nullptr) + (ids != nullptr) != 1)
    throw Error(ExitCode::kUsage, where + " must have one of 'prompt', 'messages' and 'prompt_tokens'");
  for (const char* key : {"tools", "documents", "chat_template_kwargs"})
    if (messages == nullptr && given(key) != nullptr)
      throw Error(ExitCode::kUsage, where + ": '" + key + "' goes with 'messages'");
  if (prompt) line.prompt = field(*prompt, "prompt").text();
  if (messages) line.prompt = conversation_in(std::string(text), where);
  if (ids)
    line.prompt = field(*ids, "prompt_tokens").list(false, [](const Field& one) {
      return one.integer<std::int32_t>();
    });
  for (const Key& key : kKeys)
    if (const Json* value = key.set ? given(key.name) : nullptr)
      key.set(field(*value, key.name), line.options);
  return line;
}

std::string batch_line_keys() {
  std::string names;
  for (const Key& key : kKeys) names += (names.empty() ? "" : ", ") + std::string(key.name);
  return names;
}

}  // namespace qtool
