#include "core/text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text/utf8.h"

namespace qtool::jinja {

void fail(const std::string& sentence) { throw Error(ExitCode::kMalformed, sentence); }
void unsupported(const std::string& sentence) { throw Error(ExitCode::kUnsupported, sentence); }

Value Value::undefined(std::string why) {
  return Undefined{std::make_shared<const std::string>(std::move(why))};
}

std::optional<std::int64_t> Value::integer() const {
  if (const auto* value = get_if<std::int64_t>()) return *value;
  if (const auto* value = get_if<bool>()) return *value ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const auto* value = get_if<double>()) return *value;
  if (const auto value = integer()) return static_cast<double>(*value);
  return std::nullopt;
}

std::optional<Value> Object::attribute(Interpreter&, const std::string&) { return std::nullopt; }
// By value, because overrides take the arguments apart. NOLINTNEXTLINE(performance-unnecessary-value-param)
Value Object::call(Interpreter&, Arguments) {
  fail("'" + std::string(type_name()) + "' object is not callable");
}

namespace {

int depth_of(const Value& value) {
  if (const List* list = value.list()) return list->depth;
  if (const Dict* dict = value.dict()) return dict->depth;
  return 0;
}

// The size of a container of values.
struct Extent {
  int depth = 1;
  std::int64_t parts = 1;

  void add(const Value& value) {
    depth = std::max(depth, depth_of(value) + 1);
    parts += parts_of(value);
    if (depth > kMaxValueDepth)
      fail("lists and dicts are nested deeper than " + std::to_string(kMaxValueDepth) + " levels");
    if (parts > kMaxValueParts)
      fail("a list or dict holds more than " + std::to_string(kMaxValueParts) + " values");
  }
};

bool hashable(const Value& value) {
  if (value.dict()) return false;
  const List* list = value.list();
  if (!list) return true;
  return list->kind == ListKind::kTuple && std::all_of(list->items.begin(), list->items.end(),
                                                       [](const Value& item) { return hashable(item); });
}

}  // namespace

Value make_list(std::vector<Value> items, ListKind kind) {
  auto list = std::make_shared<List>();
  Extent extent;
  for (const Value& item : items) extent.add(item);
  list->depth = extent.depth;
  list->parts = extent.parts;
  list->items = std::move(items);
  list->kind = kind;
  return ListPtr(std::move(list));
}

Value make_dict(std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  Extent extent;
  dict->entries.reserve(entries.size());
  for (auto& entry : entries) {
    const auto& [key, value] = entry;
    if (!hashable(key)) fail(a_type_of(key) + " cannot be a key of a dict");
    extent.add(key);
    extent.add(value);
    if (const Value* known = dict->find(key)) {
      *const_cast<Value*>(known) = std::move(entry.second);
      continue;
    }
    dict->entries.push_back(std::move(entry));
    if (const std::string* text = dict->entries.back().first.text())
      dict->by_text.emplace(*text, dict->entries.size() - 1);
  }
  dict->depth = extent.depth;
  dict->parts = extent.parts;
  return DictPtr(std::move(dict));
}

const Value* Dict::find(std::string_view key) const {
  const auto found = by_text.find(key);
  return found == by_text.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (const std::string* text = key.text()) return find(std::string_view(*text));
  if (by_text.size() == entries.size()) return nullptr;
  for (const auto& [known, value] : entries)
    if (equal(known, key)) return &value;
  return nullptr;
}

std::int64_t parts_of(const Value& value) {
  if (const List* list = value.list()) return list->parts;
  if (const Dict* dict = value.dict()) return dict->parts;
  return 1;
}

bool truth_of(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  if (const auto number = value.number()) return *number != 0.0;
  if (const std::string* text = value.text()) return !text->empty();
  if (const List* list = value.list()) return list->kind == ListKind::kIterator || !list->items.empty();
  if (const Dict* dict = value.dict()) return !dict->entries.empty();
  return true;
}

std::string type_name_of(const Value& value) {
  if (value.is_none()) return "NoneType";
  if (value.is_undefined()) return "Undefined";
  if (value.get_if<bool>()) return "bool";
  if (value.get_if<std::int64_t>()) return "int";
  if (value.get_if<double>()) return "float";
  if (const Text* text = value.get_if<Text>()) return text->markup ? "Markup" : "str";
  if (value.dict()) return "dict";
  if (const List* list = value.list()) {
    constexpr const char* kNames[] = {"list",        "tuple",      "range",    "dict_keys",
                                      "dict_values", "dict_items", "generator"};
    return kNames[static_cast<int>(list->kind)];
  }
  return std::string(value.object()->type_name());
}

std::string a_type_of(const Value& value) {
  const std::string name = type_name_of(value);
  return (std::string_view("aeiouAEIOU").find(name[0]) == std::string_view::npos ? "a " : "an ") + name;
}

namespace {

bool same_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Value& x, const Value& y) { return equal(x, y); });
}

bool equal_numbers(const Value& a, const Value& b) {
  const auto x = a.integer(), y = b.integer();
  if (x && y) return *x == *y;
  if (!x && !y) return *a.number() == *b.number();
  // An int and a float are compared exactly, as Python does: a long double holds any of both.
  return x ? static_cast<long double>(*x) == *b.number() : *a.number() == static_cast<long double>(*y);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.entries.size() == b.entries.size() &&
         std::all_of(a.entries.begin(), a.entries.end(), [&b](const auto& entry) {
           const Value* other = b.find(entry.first);
           return other && equal(entry.second, *other);
         });
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.number() && b.number()) return equal_numbers(a, b);
  if (a.text() && b.text()) return *a.text() == *b.text();
  if (a.list() && b.list()) {
    if (a.list() == b.list()) return true;
    if (a.list()->kind != b.list()->kind) return false;
    if (a.list()->kind == ListKind::kIterator || a.list()->kind == ListKind::kValues) return false;
    return same_items(a.list()->items, b.list()->items);
  }
  if (a.dict() && b.dict()) return a.dict() == b.dict() || equal_dicts(*a.dict(), *b.dict());
  if (a.object() || b.object()) return a.object() == b.object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b, const char* op) {
  if (a.is_undefined()) fail(*a.get_if<Undefined>()->why);
  if (b.is_undefined()) fail(*b.get_if<Undefined>()->why);
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : x > y ? 1 : 0; };
  if (a.number() && b.number()) {
    if (a.integer() && b.integer()) return order(*a.integer(), *b.integer());
    const auto wide = [](const Value& value) {
      return value.integer() ? static_cast<long double>(*value.integer()) : *value.number();
    };
    return order(wide(a), wide(b));
  }
  if (a.text() && b.text()) return order(a.text()->compare(*b.text()), 0);  // UTF-8 sorts as code points do
  const auto ordered = [](const List* list) {
    return list && (list->kind == ListKind::kList || list->kind == ListKind::kTuple);
  };
  if (ordered(a.list()) && ordered(b.list()) && a.list()->kind == b.list()->kind) {
    const std::vector<Value>&x = a.list()->items, &y = b.list()->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i])) return compare(x[i], y[i], op);
    return order(x.size(), y.size());
  }
  fail(std::string("'") + op + "' does not order " + a_type_of(a) + " and " + a_type_of(b));
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_text() || value.list() || value.dict();
}

std::vector<Value> items_of(const Value& value) {
  if (value.is_undefined()) return {};
  if (const List* list = value.list()) {
    if (list->kind != ListKind::kIterator) return list->items;
    const auto begin = list->items.begin() + static_cast<std::ptrdiff_t>(list->taken);
    list->taken = list->items.size();
    return {begin, list->items.end()};
  }
  std::vector<Value> items;
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, unused] : dict->entries) items.push_back(key);
  } else if (const std::string* text = value.text()) {
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t begin = at;
      next_code_point(*text, at);
      items.emplace_back(text->substr(begin, at - begin));
    }
  } else {
    fail(a_type_of(value) + " is not iterable");
  }
  return items;
}

std::int64_t length_of(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace qtool::jinja
