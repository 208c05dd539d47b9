#include "core/text/jinja/chat_template.h"

#include <algorithm>

#include "core/error.h"
#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/parser.h"

namespace qtool {
namespace {

using jinja::Value;
using Entries = std::vector<std::pair<Value, Value>>;

// The names under which programs hand on a message's reasoning; templates read the first or the second.
constexpr std::string_view kReasoning[] = {"reasoning_content", "thinking", "reasoning"};

// transformers 5 treats a key whose value is null as absent, and gives reasoning under both names that
// templates read.
Value normalized(const Value& message) {
  if (!message.dict())
    throw Error(ExitCode::kUsage, "every message must be an object with a role and a content");
  Entries entries;
  for (const auto& [key, value] : message.dict()->entries)
    if (!value.is_none()) entries.emplace_back(key, value);
  Value plain = jinja::make_dict(entries);
  for (const std::string_view name : kReasoning) {
    const Value* reasoning = plain.dict()->find(name);
    if (!reasoning) continue;
    entries.insert(entries.begin(), {Value("thinking"), *reasoning});
    if (const Value* thinking = plain.dict()->find(std::string_view("thinking")))
      entries.front().second = *thinking;
    entries.emplace_back("reasoning_content", *reasoning);
    return jinja::make_dict(std::move(entries));
  }
  return plain;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string name) : name_(std::move(name)) {
  try {
    body_ = jinja::parse(source);
  } catch (const Error& error) {
    throw error.within(name_);
  }
}

std::string ChatTemplate::render(const ChatInput& input) const {
  const jinja::List* messages = input.messages.list();
  if (!messages) throw Error(ExitCode::kUsage, "the messages must be a list");
  if (messages->items.empty()) throw Error(ExitCode::kUsage, "there is no message; give at least one");
  std::vector<Value> list;
  for (const Value& message : messages->items) list.push_back(normalized(message));

  jinja::Names names = {{"messages", jinja::make_list(std::move(list))},
                        {"tools", Value()},
                        {"documents", Value()},
                        {"add_generation_prompt", input.add_generation_prompt}};
  names.insert(names.end(), input.names.begin(), input.names.end());
  jinja::Interpreter interpreter(std::move(names), input.now);
  try {
    return interpreter.render(body_);
  } catch (const Error& error) {
    throw error.within(name_);
  }
}

std::tm local_time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return local;
}

}  // namespace qtool
