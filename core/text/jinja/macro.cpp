#include "core/text/jinja/macro.h"

#include <algorithm>

namespace qtool::jinja {

std::optional<Value> Macro::attribute(Interpreter&, const std::string& name) {
  if (name == "name") return Value(definition_->name);
  for (const char* other : {"arguments", "catch_kwargs", "catch_varargs", "caller", "explicit_caller"})
    if (name == other) unsupported("the attribute '" + name + "' of macros is not supported");
  return std::nullopt;
}

Value Macro::call(Interpreter& interpreter, Arguments arguments) {
  const std::string what = "macro '" + definition_->name + "'";
  const std::vector<Parameter>& parameters = definition_->parameters;
  auto scope = std::make_shared<Scope>(scope_);

  const auto take_keyword = [&arguments](const std::string& name) -> std::optional<Value> {
    for (auto at = arguments.keyword.begin(); at != arguments.keyword.end(); ++at)
      if (at->first == name) {
        Value value = std::move(at->second);
        arguments.keyword.erase(at);
        return value;
      }
    return std::nullopt;
  };

  const std::size_t by_place = std::min(arguments.positional.size(), parameters.size());
  std::vector<const Parameter*> missing;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = parameters[i].name;
    if (i < by_place) {
      scope->set(name, arguments.positional[i]);
      continue;
    }
    if (std::optional<Value> given = take_keyword(name)) {
      scope->set(name, std::move(*given));
    } else {
      scope->set(name, Value::undefined("parameter '" + name + "' was not provided"));
      if (parameters[i].fallback) missing.push_back(&parameters[i]);
    }
  }

  if (definition_->takes_caller) {
    std::optional<Value> caller = take_keyword("caller");
    scope->set("caller", caller ? std::move(*caller) : Value::undefined("No caller defined"));
  }
  if (definition_->takes_keywords) {
    std::vector<std::pair<Value, Value>> rest;
    for (auto& [name, value] : arguments.keyword) rest.emplace_back(name, std::move(value));
    scope->set("kwargs", make_dict(std::move(rest)));
  } else if (!arguments.keyword.empty()) {
    fail(what + " takes no argument '" + arguments.keyword.front().first + "'");
  }
  if (definition_->takes_rest) {
    scope->set("varargs", make_tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(by_place),
                                      arguments.positional.end()}));
  } else if (arguments.positional.size() > parameters.size()) {
    fail(what + " takes not more than " + std::to_string(parameters.size()) + " arguments");
  }
  // Defaults are evaluated when they are needed, and see the arguments in front of them.
  for (const Parameter* parameter : missing)
    scope->set(parameter->name, interpreter.evaluate_in(*parameter->fallback, scope));
  return Value(interpreter.captured(definition_->body, std::move(scope)));
}

std::optional<Value> Namespace::attribute(Interpreter&, const std::string& name) {
  for (const auto& [known, value] : attributes_)
    if (known == name) return value;
  return std::nullopt;
}

void Namespace::set(const std::string& name, Value value) {
  if (!name.empty() && name.front() == '_')
    fail("a namespace cannot hold '" + name + "': names with an underscore in front are not allowed");
  for (auto& [known, held] : attributes_)
    if (known == name) {
      held = std::move(value);
      return;
    }
  attributes_.emplace_back(name, std::move(value));
}

}  // namespace qtool::jinja
