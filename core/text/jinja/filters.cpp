// Filters by name; here are those that call other filters and tests.
#include "core/text/jinja/filters.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/text/jinja/strings.h"

namespace qtool::jinja {

Value attribute_at(Interpreter& interpreter, const Value& item, const Value& attribute,
                   const Value* fallback) {
  if (attribute.is_none()) return item;
  const auto step = [&](const Value& from, const Value& key) {
    interpreter.charge_steps(1);
    Value found = interpreter.item_of(from, key);
    return found.is_undefined() && fallback && !fallback->is_none() ? *fallback : found;
  };
  if (!attribute.text()) return step(item, attribute);
  Value at = item;
  for (const std::string& part : split(*attribute.text(), ".", -1)) {
    std::int64_t index = 0;
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = failure == std::errc() && end == part.data() + part.size() && part[0] != '-';
    at = step(at, number ? Value(index) : Value(part));
  }
  return at;
}

namespace {

Value take_first(Arguments& arguments, const std::string& what) {
  if (arguments.positional.empty()) fail(what);
  Value first = std::move(arguments.positional.front());
  arguments.positional.erase(arguments.positional.begin());
  return first;
}

Value iterator_over(Interpreter& interpreter, std::vector<Value> items) {
  interpreter.charge_bytes(static_cast<std::int64_t>(items.size()) * kValueBytes);
  return make_list(std::move(items), ListKind::kIterator);
}

// map('upper'), map(attribute='name', default=...)
Value map(Interpreter& interpreter, const Value& subject, Arguments arguments) {
  std::vector<Value> out;
  if (!truth_of(subject)) return iterator_over(interpreter, {});
  const auto named = [&arguments](const char* name) {
    return std::find_if(arguments.keyword.begin(), arguments.keyword.end(),
                        [name](const auto& argument) { return argument.first == name; });
  };
  if (arguments.positional.empty() && named("attribute") != arguments.keyword.end()) {
    const Bound given("the filter 'map'", "attribute! default", std::move(arguments));
    for (const Value& item : items_of(subject))
      out.push_back(attribute_at(interpreter, item, given[0], &given[1]));
    return iterator_over(interpreter, std::move(out));
  }
  const Value name = take_first(arguments, "the filter 'map' needs a filter or an attribute");
  if (!name.text()) fail("the filter 'map' needs the name of a filter");
  for (const Value& item : items_of(subject)) {
    interpreter.charge_steps(1);
    out.push_back(apply_filter(interpreter, *name.text(), item, arguments));
  }
  return iterator_over(interpreter, std::move(out));
}

// select, reject, selectattr, rejectattr: items of which a test holds; without a test, those that are true.
Value chosen(Interpreter& interpreter, const Value& subject, Arguments arguments, bool wanted,
             bool of_attribute) {
  std::vector<Value> out;
  if (!truth_of(subject)) return iterator_over(interpreter, {});
  Value attribute;
  if (of_attribute)
    attribute = take_first(arguments, "selectattr and rejectattr need the name of an attribute");
  std::string test;
  if (!arguments.positional.empty()) {
    const Value name = take_first(arguments, "");
    if (!name.text()) fail("select and reject need the name of a test");
    test = *name.text();
  }
  for (const Value& item : items_of(subject)) {
    interpreter.charge_steps(1);
    const Value asked = attribute_at(interpreter, item, attribute);
    const bool holds = test.empty() ? truth_of(asked) : apply_test(interpreter, test, asked, arguments);
    if (holds == wanted) out.push_back(item);
  }
  return iterator_over(interpreter, std::move(out));
}

Value format(Interpreter& interpreter, const Value& subject, Arguments arguments) {
  if (!arguments.positional.empty() && !arguments.keyword.empty())
    fail("the filter 'format' takes arguments either with names or without");
  Value values = make_tuple(std::move(arguments.positional));
  if (!arguments.keyword.empty()) {
    std::vector<std::pair<Value, Value>> entries;
    for (auto& [name, value] : arguments.keyword) entries.emplace_back(name, std::move(value));
    values = make_dict(std::move(entries));
  }
  return interpreter.made(percent_format(interpreter, to_text(subject), values));
}

bool takes_any_arguments(std::string_view name) {
  for (const std::string_view known : {"map", "select", "reject", "selectattr", "rejectattr", "format"})
    if (name == known) return true;
  return false;
}

bool is_unsupported(std::string_view name) {
  for (const std::string_view known :
       {"filesizeformat", "groupby", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"})
    if (name == known) return true;
  return false;
}

std::string_view without_synonym(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kSynonyms[] = {
      {"d", "default"}, {"e", "escape"}, {"count", "length"}};
  for (const auto& [synonym, plain] : kSynonyms)
    if (name == synonym) return plain;
  return name;
}

}  // namespace

bool is_filter(std::string_view name) {
  name = without_synonym(name);
  return takes_any_arguments(name) || is_unsupported(name) || text_filters().count(name) > 0 ||
         sequence_filters().count(name) > 0;
}

Value apply_filter(Interpreter& interpreter, const std::string& name, const Value& subject,
                   Arguments arguments) {
  if (name == "map") return map(interpreter, subject, std::move(arguments));
  if (name == "format") return format(interpreter, subject, std::move(arguments));
  if (takes_any_arguments(name)) {
    const bool of_attribute = name.size() > 6;  // selectattr, rejectattr
    return chosen(interpreter, subject, std::move(arguments), name[0] == 's', of_attribute);
  }
  for (const FilterTable* table : {&text_filters(), &sequence_filters()})
    if (const auto row = table->find(without_synonym(name)); row != table->end())
      return row->second.run(
          interpreter, subject,
          Bound("the filter '" + name + "'", row->second.parameters, std::move(arguments)));
  unsupported("the filter '" + escaped(name) + "' is " +
              (is_unsupported(name) ? "not supported" : "not known"));
}

}  // namespace qtool::jinja
