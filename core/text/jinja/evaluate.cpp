// Expressions.
#include <algorithm>

#include "core/error.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/depth.h"
#include "core/text/jinja/interpreter.h"

namespace qtool::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const DepthGuard guard(depth_);
  charge_steps(1);
  line_ = expression.line;
  const auto child = [&](std::size_t i) { return evaluate(*expression.children[i]); };
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.constant;
    case ExpressionKind::kName:
      return evaluate_name(expression.name);
    case ExpressionKind::kTuple:
    case ExpressionKind::kList:
      return evaluate_sequence(expression);
    case ExpressionKind::kDict:
      return evaluate_dict(expression);
    case ExpressionKind::kAttribute:
      return attribute_of(child(0), expression.name);
    case ExpressionKind::kItem:
      return evaluate_item(expression);
    case ExpressionKind::kCall:
      return evaluate_call(expression);
    case ExpressionKind::kFilter:
      return evaluate_filter(expression);
    case ExpressionKind::kTest: {
      const Value subject = child(0);
      return apply_test(*this, expression.name, subject, arguments_of(expression));
    }
    case ExpressionKind::kNot:
      return !truth_of(child(0));
    case ExpressionKind::kMinus:
      return negative(child(0));
    case ExpressionKind::kPlus:
      return positive(child(0));
    case ExpressionKind::kBinary: {
      const Value left = child(0);
      const Value right = child(1);
      line_ = expression.line;
      return binary(*this, expression.name, left, right);
    }
    case ExpressionKind::kConcat:
      return evaluate_concat(expression);
    case ExpressionKind::kCompare:
      return evaluate_compare(expression);
    case ExpressionKind::kAnd: {
      Value left = child(0);
      return truth_of(left) ? child(1) : left;
    }
    case ExpressionKind::kOr: {
      Value left = child(0);
      return truth_of(left) ? left : child(1);
    }
    case ExpressionKind::kCondition:
      return evaluate_condition(expression);
    case ExpressionKind::kSlice:
      break;  // kItem evaluates it
  }
  throw internal_error("an expression of no kind");
}

Value Interpreter::evaluate_in(const Expression& expression, const std::shared_ptr<Scope>& scope) {
  const ScopeChange change(*this, scope);
  return evaluate(expression);
}

Value Interpreter::evaluate_name(const std::string& name) {
  if (const Value* value = scope_->find(name)) return *value;
  if (const Value* global = global_named(name)) return *global;
  return Value::undefined("'" + name + "' is undefined");
}

Value Interpreter::evaluate_sequence(const Expression& expression) {
  std::vector<Value> items;
  items.reserve(expression.children.size());
  for (const ExpressionPtr& child : expression.children) items.push_back(evaluate(*child));
  charge_bytes(static_cast<std::int64_t>(items.size() + 1) * kValueBytes);
  return make_list(std::move(items),
                   expression.kind == ExpressionKind::kTuple ? ListKind::kTuple : ListKind::kList);
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  std::vector<std::pair<Value, Value>> entries;
  for (std::size_t i = 0; i < expression.children.size(); i += 2) {
    Value key = evaluate(*expression.children[i]);
    entries.emplace_back(std::move(key), evaluate(*expression.children[i + 1]));
  }
  charge_bytes(static_cast<std::int64_t>(entries.size() + 1) * 4 * kValueBytes);
  return make_dict(std::move(entries));
}

Value Interpreter::evaluate_item(const Expression& expression) {
  const Value subject = evaluate(*expression.children[0]);
  const Expression& key = *expression.children[1];
  if (key.kind != ExpressionKind::kSlice) {
    const Value index = evaluate(key);
    line_ = expression.line;
    return item_of(subject, index);
  }
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (key.children[i]) bounds[i] = evaluate(*key.children[i]);
  line_ = expression.line;
  return slice(*this, subject, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  std::string text;
  for (const ExpressionPtr& child : expression.children) {
    const std::string part = to_text(evaluate(*child));
    line_ = expression.line;
    charge_bytes(static_cast<std::int64_t>(part.size()));
    text += part;
  }
  return text;
}

// a < b < c is a < b and b < c.
Value Interpreter::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.children[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.children[i + 1]);
    line_ = expression.line;
    if (!compares(*this, expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_condition(const Expression& expression) {
  if (truth_of(evaluate(*expression.children[0]))) return evaluate(*expression.children[1]);
  if (expression.children[2]) return evaluate(*expression.children[2]);
  return Value::undefined("the inline if-expression on line " + std::to_string(expression.line) +
                          " is false and has no else");
}

Arguments Interpreter::arguments_of(const Expression& expression) {
  Arguments arguments;
  const auto add_keyword = [&arguments](const std::string& name, Value value) {
    for (const auto& [known, unused] : arguments.keyword)
      if (known == name) fail("the argument '" + name + "' is given twice");
    arguments.keyword.emplace_back(name, std::move(value));
  };
  for (const Argument& argument : expression.arguments) {
    Value value = evaluate(*argument.value);
    switch (argument.kind) {
      case ArgumentKind::kPositional:
        arguments.positional.push_back(std::move(value));
        break;
      case ArgumentKind::kKeyword:
        add_keyword(argument.name, std::move(value));
        break;
      case ArgumentKind::kList:
        for (Value& item : items_of(value)) arguments.positional.push_back(std::move(item));
        break;
      case ArgumentKind::kDict: {
        const Dict* dict = value.dict();
        if (!dict) fail("** needs a dict, not " + a_type_of(value));
        for (const auto& [key, item] : dict->entries) {
          if (!key.text()) fail("** needs a dict whose keys are strings");
          add_keyword(*key.text(), item);
        }
      }
    }
  }
  charge_steps(static_cast<std::int64_t>(arguments.positional.size() + arguments.keyword.size()));
  line_ = expression.line;
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& expression, const Value* caller) {
  const Value callee = evaluate(*expression.children[0]);
  Arguments arguments = arguments_of(expression);
  if (caller) arguments.keyword.emplace_back("caller", *caller);
  return call(callee, std::move(arguments));
}

Value Interpreter::call(const Value& callee, Arguments arguments) {
  if (const Undefined* undefined = callee.get_if<Undefined>())
    fail(*undefined->why + ", and cannot be called");
  if (!callee.object()) fail(a_type_of(callee) + " cannot be called");
  const ObjectPtr held = *callee.get_if<ObjectPtr>();
  return held->call(*this, std::move(arguments));
}

Value Interpreter::evaluate_filter(const Expression& expression, const Value* block) {
  // A block's filters have no subject of their own: the innermost takes the block.
  const Value subject =
      !expression.children.empty()
          ? (block ? evaluate_filter(*expression.children[0], block) : evaluate(*expression.children[0]))
          : *block;
  Arguments arguments = arguments_of(expression);
  return apply_filter(*this, expression.name, subject, std::move(arguments));
}

Value Interpreter::attribute_of(const Value& subject, const std::string& name) {
  if (const Undefined* undefined = subject.get_if<Undefined>()) fail(*undefined->why);
  if (name.substr(0, 2) == "__")
    return Value::undefined("access to attribute '" + name + "' of '" + type_name_of(subject) +
                            "' object is unsafe");
  if (std::optional<Value> method = method_of(subject, name)) return *method;
  if (Object* object = subject.object())
    if (std::optional<Value> value = object->attribute(*this, name)) return *value;
  if (const Dict* dict = subject.dict())
    if (const Value* value = dict->find(std::string_view(name))) return *value;
  return Value::undefined("'" + type_name_of(subject) + " object' has no attribute '" + escaped(name) + "'");
}

namespace {

// nullptr: no such item.
const Value* list_item(const List& list, const Value& key) {
  const bool indexed =
      list.kind == ListKind::kList || list.kind == ListKind::kTuple || list.kind == ListKind::kRange;
  const std::optional<std::int64_t> index = key.integer();
  if (!indexed || !index) return nullptr;
  const auto size = static_cast<std::int64_t>(list.items.size());
  const std::int64_t at = *index < 0 ? *index + size : *index;
  return at >= 0 && at < size ? &list.items[static_cast<std::size_t>(at)] : nullptr;
}

}  // namespace

Value Interpreter::item_of(const Value& subject, const Value& key) {
  if (const Undefined* undefined = subject.get_if<Undefined>()) fail(*undefined->why);
  if (const Dict* dict = subject.dict()) {
    if (const Value* value = dict->find(key)) return *value;
  } else if (const List* list = subject.list()) {
    if (const Value* value = list_item(*list, key)) return *value;
  } else if (subject.text() && key.integer()) {
    const Value at = *key.integer();
    charge_steps(static_cast<std::int64_t>(subject.text()->size() / 64));
    if (*key.integer() == INT64_MAX) return Value::undefined("string index out of range");
    const Value next = *key.integer() == -1 ? Value() : Value(*key.integer() + 1);
    Value character = slice(*this, subject, at, next, Value());
    const std::int64_t length = length_of(*subject.text());
    if (*at.integer() >= -length && *at.integer() < length) return character;
  }
  if (const std::string* name = key.text()) {
    if (name->substr(0, 2) == "__")
      return Value::undefined("access to attribute '" + escaped(*name) + "' is unsafe");
    if (std::optional<Value> method = method_of(subject, *name)) return *method;
    if (Object* object = subject.object())
      if (std::optional<Value> value = object->attribute(*this, *name)) return *value;
  }
  return Value::undefined("'" + type_name_of(subject) + " object' has no element " +
                          escaped(key.is_text() ? quoted(key.text()->substr(0, 100)) : type_name_of(key)));
}

}  // namespace qtool::jinja
