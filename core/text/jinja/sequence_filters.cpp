// Filters of what can be walked through.
#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/strings.h"

namespace qtool::jinja {
namespace {

void must_be_defined(const Value& value) {
  if (const auto* undefined = value.get_if<Undefined>()) fail(*undefined->why);
}

Value listed(Interpreter& interpreter, std::vector<Value> items, ListKind kind) {
  interpreter.charge_bytes(static_cast<std::int64_t>(items.size() + 1) * kValueBytes);
  return make_list(std::move(items), kind);
}

Value length(Interpreter& interpreter, const Value& subject, const Bound&) {
  if (subject.is_undefined()) return 0;
  if (const std::string* text = subject.text()) {
    interpreter.charge_steps(static_cast<std::int64_t>(text->size() / 64));
    return length_of(*text);
  }
  if (const Dict* dict = subject.dict()) return static_cast<std::int64_t>(dict->entries.size());
  const List* list = subject.list();
  if (!list || list->kind == ListKind::kIterator) fail(a_type_of(subject) + " has no length");
  return static_cast<std::int64_t>(list->items.size());
}

Value join(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::string separator = given.has(0) ? to_text(given[0]) : "";
  std::string out;
  bool first = true;
  for (const Value& item : items_of(subject)) {
    if (!first) out += separator;
    first = false;
    const std::string part = to_text(attribute_at(interpreter, item, given[1]));
    interpreter.charge_bytes(static_cast<std::int64_t>(part.size() + separator.size()));
    out += part;
  }
  return out;
}

Value first(Interpreter&, const Value& subject, const Bound&) {
  const List* list = subject.list();
  if (list && list->kind == ListKind::kIterator) {  // takes one item
    if (list->taken < list->items.size()) return list->items[list->taken++];
  } else if (const std::string* text = subject.text(); text && !text->empty()) {
    return text->substr(0, byte_of(*text, 1));
  } else if (const std::vector<Value> items = items_of(subject); !items.empty()) {
    return items.front();
  }
  return Value::undefined("No first item, sequence was empty.");
}

Value last(Interpreter&, const Value& subject, const Bound&) {
  must_be_defined(subject);
  if (subject.list() && subject.list()->kind == ListKind::kIterator)
    fail("a generator has no last item; add the filter 'list'");
  const std::vector<Value> items = items_of(subject);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(Interpreter& interpreter, const Value& subject, const Bound&) {
  if (subject.text()) return slice(interpreter, subject, Value(), Value(), Value(-1));
  must_be_defined(subject);
  const bool generator = subject.list() && subject.list()->kind == ListKind::kIterator;
  std::vector<Value> items = items_of(subject);
  std::reverse(items.begin(), items.end());
  return listed(interpreter, std::move(items), generator ? ListKind::kList : ListKind::kIterator);
}

Value folded(const Value& key, bool case_sensitive) {
  return key.text() && !case_sensitive ? Value(lower(*key.text())) : key;
}

// Items in the order of their keys; those of equal keys stay as they are, in either direction.
std::vector<Value> ordered(Interpreter& interpreter, const std::vector<Value>& items,
                           const std::vector<std::vector<Value>>& keys, bool descending) {
  std::vector<std::size_t> places(items.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    interpreter.charge_steps(1);
    if (descending) std::swap(a, b);
    for (std::size_t i = 0; i < keys[a].size(); ++i)
      if (!equal(keys[a][i], keys[b][i])) return compare(keys[a][i], keys[b][i], "<") < 0;
    return false;
  });
  std::vector<Value> out;
  for (const std::size_t place : places) out.push_back(items[place]);
  return out;
}

Value sort(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::vector<Value> items = items_of(subject);
  // "a,b" sorts by a, then by b.
  std::vector<Value> attributes = {given[2]};
  if (given[2].text()) {
    attributes.clear();
    for (const std::string& name : split(*given[2].text(), ",", -1)) attributes.emplace_back(name);
  }
  std::vector<std::vector<Value>> keys;
  for (const Value& item : items) {
    keys.emplace_back();
    for (const Value& attribute : attributes)
      keys.back().push_back(folded(attribute_at(interpreter, item, attribute), given.truth(1, false)));
  }
  return listed(interpreter, ordered(interpreter, items, keys, given.integer(0, 0) != 0), ListKind::kList);
}

Value sort_dict(Interpreter& interpreter, const Value& subject, const Bound& given) {
  must_be_defined(subject);
  if (!subject.dict()) fail("the filter 'dictsort' needs a dict, not " + a_type_of(subject));
  const std::string by = given.has(1) ? given.text(1) : "key";
  if (by != "key" && by != "value") fail("the filter 'dictsort' sorts by 'key' or 'value'");
  std::vector<Value> items;
  std::vector<std::vector<Value>> keys;
  for (const auto& [key, value] : subject.dict()->entries) {
    items.push_back(make_tuple({key, value}));
    keys.push_back({folded(by == "key" ? key : value, given.truth(0, false))});
  }
  return listed(interpreter, ordered(interpreter, items, keys, given.integer(2, 0) != 0), ListKind::kList);
}

Value unique(Interpreter& interpreter, const Value& subject, const Bound& given) {
  std::vector<Value> out, seen;
  for (const Value& item : items_of(subject)) {
    const Value key = folded(attribute_at(interpreter, item, given[1]), given.truth(0, false));
    interpreter.charge_steps(static_cast<std::int64_t>(seen.size()) * parts_of(key));
    if (std::any_of(seen.begin(), seen.end(), [&key](const Value& known) { return equal(known, key); }))
      continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return listed(interpreter, std::move(out), ListKind::kIterator);
}

template <int kSign>
Value extreme(Interpreter& interpreter, const Value& subject, const Bound& given) {
  std::optional<Value> best, best_key;
  for (const Value& item : items_of(subject)) {
    interpreter.charge_steps(1);
    Value key = folded(attribute_at(interpreter, item, given[1]), given.truth(0, false));
    if (best_key && compare(key, *best_key, kSign < 0 ? "<" : ">") * kSign <= 0) continue;
    best = item;
    best_key = std::move(key);
  }
  return best ? *best : Value::undefined("No aggregated item, sequence was empty.");
}

Value sum(Interpreter& interpreter, const Value& subject, const Bound& given) {
  Value total = given.has(1) ? given[1] : Value(0);
  if (total.is_text()) fail("the filter 'sum' adds numbers; use 'join' for strings");
  for (const Value& item : items_of(subject)) {
    interpreter.charge_steps(1);
    total = binary(interpreter, "+", total, attribute_at(interpreter, item, given[0]));
  }
  return total;
}

Value items(Interpreter& interpreter, const Value& subject, const Bound&) {
  std::vector<Value> pairs;
  if (!subject.is_undefined()) {
    if (!subject.dict()) fail("the filter 'items' needs a dict, not " + a_type_of(subject));
    for (const auto& [key, value] : subject.dict()->entries) pairs.push_back(make_tuple({key, value}));
  }
  return listed(interpreter, std::move(pairs), ListKind::kIterator);
}

// Rows of `linecount` items, the last one filled up.
Value batch(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::int64_t size = given.integer(0, 1);
  if (size < 1) fail("the filter 'batch' needs rows of at least 1 item");
  std::vector<Value> rows, row;
  const auto end_row = [&] { rows.push_back(listed(interpreter, std::exchange(row, {}), ListKind::kList)); };
  for (Value& item : items_of(subject)) {
    if (static_cast<std::int64_t>(row.size()) == size) end_row();
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    const std::int64_t missing = given[1].is_none() ? 0 : size - static_cast<std::int64_t>(row.size());
    if (missing > kMaxRange) fail("the filter 'batch' with rows of over 100000 items");
    row.insert(row.end(), static_cast<std::size_t>(missing), given[1]);
    end_row();
  }
  return listed(interpreter, std::move(rows), ListKind::kIterator);
}

// So many rows, the first ones longer by one where the items do not divide evenly.
Value slices(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::vector<Value> items = items_of(subject);
  const std::int64_t count = given.integer(0, 1);
  if (count < 1 || count > kMaxRange) fail("the filter 'slice' needs between 1 and 100000 rows");
  const auto size = static_cast<std::int64_t>(items.size());
  const std::int64_t short_row = size / count, longer = size % count;
  std::vector<Value> rows;
  auto at = items.begin();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t length = short_row + (i < longer ? 1 : 0);
    std::vector<Value> row(at, at + length);
    at += length;
    if (!given[1].is_none() && i >= longer) row.push_back(given[1]);
    rows.push_back(listed(interpreter, std::move(row), ListKind::kList));
  }
  return listed(interpreter, std::move(rows), ListKind::kIterator);
}

// subject.name, never subject['name'].
Value attr(Interpreter& interpreter, const Value& subject, const Bound& given) {
  must_be_defined(subject);
  const std::string& name = given.text(0);
  if (subject.dict() && !method_of(subject, name))
    return Value::undefined("a dict has no attribute '" + escaped(name.substr(0, 100)) + "'");
  return interpreter.attribute_of(subject, name);
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterTable kFilters = {
      {"length", {"", length}},
      {"join", {"d attribute", join}},
      {"first", {"", first}},
      {"last", {"", last}},
      {"list",
       {"", [](Interpreter& i, const Value& v,
               const Bound&) { return listed(i, items_of(v), ListKind::kList); }}},
      {"reverse", {"", reverse}},
      {"sort", {"reverse case_sensitive attribute", sort}},
      {"dictsort", {"case_sensitive by reverse", sort_dict}},
      {"unique", {"case_sensitive attribute", unique}},
      {"min", {"case_sensitive attribute", extreme<-1>}},
      {"max", {"case_sensitive attribute", extreme<1>}},
      {"sum", {"attribute start", sum}},
      {"items", {"", items}},
      {"batch", {"linecount! fill_with", batch}},
      {"slice", {"slices! fill_with", slices}},
      {"attr", {"name!", attr}},
  };
  return kFilters;
}

}  // namespace qtool::jinja
