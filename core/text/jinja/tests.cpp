// What may follow `is`.
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace qtool::jinja {
namespace {

using Test = bool (*)(Interpreter&, const Value& subject, const Bound& given);

struct Row {
  const char* parameters;
  Test holds;
};

bool is_integer(const Value& value) { return value.get_if<std::int64_t>() != nullptr; }

// str.islower() and str.isupper(): at least one letter has a case, and none has the other.
bool all_of_case(const Value& value, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  const std::string text = to_text(value);
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (other(c)) return false;
    any = any || wanted(c);
  }
  return any;
}

bool remainder_is(Interpreter& interpreter, const Value& subject, const Value& divisor, int rest) {
  return equal(binary(interpreter, "%", subject, divisor), rest);
}

template <char Op, char Second = '\0'>
bool ordered(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const char op[] = {Op, Second, '\0'};
  return compares(interpreter, op, subject, given[0]);
}

bool is_sequence(const Value& value) {
  if (const List* list = value.list())
    return list->kind == ListKind::kList || list->kind == ListKind::kTuple || list->kind == ListKind::kRange;
  return value.is_undefined() || value.is_text() || value.dict();
}

bool same_object(const Value& a, const Value& b) {
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (const bool* x = a.get_if<bool>(), *y = b.get_if<bool>(); x || y) return x && y && *x == *y;
  if (a.list() || b.list()) return a.list() == b.list();
  if (a.dict() || b.dict()) return a.dict() == b.dict();
  if (a.object() || b.object()) return a.object() == b.object();
  unsupported("the test 'sameas' on " + a_type_of(a) + " depends on Python's memory; use ==");
}

const std::map<std::string_view, Row>& tests() {
  static const std::map<std::string_view, Row> kTests = {
      {"defined", {"", [](Interpreter&, const Value& v, const Bound&) { return !v.is_undefined(); }}},
      {"undefined", {"", [](Interpreter&, const Value& v, const Bound&) { return v.is_undefined(); }}},
      {"none", {"", [](Interpreter&, const Value& v, const Bound&) { return v.is_none(); }}},
      {"boolean",
       {"", [](Interpreter&, const Value& v, const Bound&) { return v.get_if<bool>() != nullptr; }}},
      {"true",
       {"",
        [](Interpreter&, const Value& v, const Bound&) { return v.get_if<bool>() && *v.get_if<bool>(); }}},
      {"false",
       {"",
        [](Interpreter&, const Value& v, const Bound&) { return v.get_if<bool>() && !*v.get_if<bool>(); }}},
      {"integer", {"", [](Interpreter&, const Value& v, const Bound&) { return is_integer(v); }}},
      {"float",
       {"", [](Interpreter&, const Value& v, const Bound&) { return v.get_if<double>() != nullptr; }}},
      {"number", {"", [](Interpreter&, const Value& v, const Bound&) { return v.number().has_value(); }}},
      {"string", {"", [](Interpreter&, const Value& v, const Bound&) { return v.is_text(); }}},
      {"mapping", {"", [](Interpreter&, const Value& v, const Bound&) { return v.dict() != nullptr; }}},
      {"sequence", {"", [](Interpreter&, const Value& v, const Bound&) { return is_sequence(v); }}},
      {"iterable", {"", [](Interpreter&, const Value& v, const Bound&) { return is_iterable(v); }}},
      {"callable",
       {"", [](Interpreter&, const Value& v,
               const Bound&) { return v.is_undefined() || (v.object() && v.object()->is_callable()); }}},
      {"escaped",
       {"",
        [](Interpreter&, const Value& v, const Bound&) { return v.is_text() && v.get_if<Text>()->markup; }}},
      {"lower",
       {"", [](Interpreter&, const Value& v, const Bound&) { return all_of_case(v, is_lower, is_upper); }}},
      {"upper",
       {"", [](Interpreter&, const Value& v, const Bound&) { return all_of_case(v, is_upper, is_lower); }}},
      {"odd", {"", [](Interpreter& i, const Value& v, const Bound&) { return remainder_is(i, v, 2, 1); }}},
      {"even", {"", [](Interpreter& i, const Value& v, const Bound&) { return remainder_is(i, v, 2, 0); }}},
      {"divisibleby",
       {"num!", [](Interpreter& i, const Value& v, const Bound& g) { return remainder_is(i, v, g[0], 0); }}},
      {"sameas",
       {"other!", [](Interpreter&, const Value& v, const Bound& g) { return same_object(v, g[0]); }}},
      {"in", {"seq!", [](Interpreter& i, const Value& v, const Bound& g) { return contains(i, g[0], v); }}},
      {"filter",
       {"", [](Interpreter&, const Value& v, const Bound&) { return v.is_text() && is_filter(*v.text()); }}},
      {"test",
       {"", [](Interpreter&, const Value& v, const Bound&) { return v.is_text() && is_test(*v.text()); }}},
      {"==", {"other!", ordered<'=', '='>}},
      {"!=", {"other!", ordered<'!', '='>}},
      {"<", {"other!", ordered<'<'>}},
      {"<=", {"other!", ordered<'<', '='>}},
      {">", {"other!", ordered<'>'>}},
      {">=", {"other!", ordered<'>', '='>}},
  };
  return kTests;
}

std::string_view without_synonym(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kSynonyms[] = {
      {"eq", "=="}, {"equalto", "=="},    {"ne", "!="}, {"lt", "<"}, {"lessthan", "<"},
      {"le", "<="}, {"greaterthan", ">"}, {"gt", ">"},  {"ge", ">="}};
  for (const auto& [synonym, plain] : kSynonyms)
    if (name == synonym) return plain;
  return name;
}

}  // namespace

bool is_test(std::string_view name) { return tests().count(without_synonym(name)) > 0; }

bool apply_test(Interpreter& interpreter, const std::string& name, const Value& subject,
                Arguments arguments) {
  const auto row = tests().find(without_synonym(name));
  if (row == tests().end()) unsupported("the test 'is " + escaped(name) + "' is not known");
  return row->second.holds(interpreter, subject,
                           Bound("the test '" + name + "'", row->second.parameters, std::move(arguments)));
}

}  // namespace qtool::jinja
