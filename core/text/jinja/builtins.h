// What templates can name without defining it: functions, filters, tests and the methods of str, list and
// dict.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/interpreter.h"

namespace qtool::jinja {

// range(), namespace(), dict(), cycler(), joiner(), raise_exception(), strftime_now(); nullptr: none of that
// name.
const Value* global_named(std::string_view name);

// Errors of these: kUnsupported (a name that is not known), kMalformed (arguments or values that do not fit).
Value apply_filter(Interpreter& interpreter, const std::string& name, const Value& subject,
                   Arguments arguments);
bool apply_test(Interpreter& interpreter, const std::string& name, const Value& subject, Arguments arguments);
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// The method `name` of a str, list, dict or number, bound to it. nullopt: Python's type has no such
// attribute.
std::optional<Value> method_of(const Value& subject, const std::string& name);

// --- operators (operators.cpp)
Value binary(Interpreter& interpreter, const std::string& op, const Value& left, const Value& right);
Value negative(const Value& value);
Value positive(const Value& value);
bool compares(Interpreter& interpreter, const std::string& op, const Value& left, const Value& right);
bool contains(Interpreter& interpreter, const Value& container, const Value& item);
// subject[begin:end:step]; what is left out is None.
Value slice(Interpreter& interpreter, const Value& subject, const Value& begin, const Value& end,
            const Value& step);
// str % values (format.cpp)
std::string percent_format(Interpreter& interpreter, const std::string& format, const Value& values);
// str.format() with {}, {0} and {name}.
std::string brace_format(Interpreter& interpreter, const std::string& format, const Arguments& arguments);
// json.dumps() (json.cpp)
std::string json_text(Interpreter& interpreter, const Value& value, bool ensure_ascii, const Value& indent,
                      const Value& separators, bool sort_keys);
std::string escaped_html(std::string_view text);

// Arguments matched with parameters, as Python matches them.
class Bound {
 public:
  // `names`: "first! second third", where "!" marks what must be given. `what` names the callee in errors.
  Bound(const std::string& what, std::string_view names, Arguments arguments);

  bool has(std::size_t i) const { return given_[i]; }
  const Value& operator[](std::size_t i) const { return values_[i]; }  // None where not given
  bool truth(std::size_t i, bool fallback) const { return given_[i] ? truth_of(values_[i]) : fallback; }
  std::int64_t integer(std::size_t i, std::int64_t fallback) const;  // errors: another type
  const std::string& text(std::size_t i) const;                      // errors: another type
  std::optional<std::string> optional_text(std::size_t i) const;     // nullopt: not given or None

 private:
  std::string what_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

inline constexpr std::int64_t kValueBytes = sizeof(Value);  // what an item of a list costs

}  // namespace qtool::jinja
