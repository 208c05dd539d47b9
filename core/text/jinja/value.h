// The values a template computes with: Python's, as far as chat templates can see them.
//
// Strings, lists and dicts never change once made (Hugging Face renders in a sandbox that forbids it), so
// they are shared, and a cycle can only pass through an Object.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/limits.h"

namespace qtool::jinja {

class Value;
class Object;
struct List;
struct Dict;

// Lists in lists: what destroys, prints and compares values recurses, and values that share their parts are
// small in memory but large to walk through.

struct None {};

// What a missing name or key is. Prints as nothing, is false and empty; anything else that is done with it
// fails with `why`.
struct Undefined {
  std::shared_ptr<const std::string> why;
};

// `markup`: the result of the filters `safe` and `escape`, which escapes what is added to it.
struct Text {
  std::shared_ptr<const std::string> bytes;  // valid UTF-8
  bool markup = false;
};

using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  Value() : held_(None{}) {}
  Value(bool value) : held_(value) {}
  Value(std::int64_t value) : held_(value) {}
  Value(int value) : held_(std::int64_t{value}) {}
  Value(double value) : held_(value) {}
  Value(std::string text) : held_(Text{std::make_shared<const std::string>(std::move(text)), false}) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(Text text) : held_(std::move(text)) {}
  Value(Undefined undefined) : held_(std::move(undefined)) {}
  Value(ListPtr list) : held_(std::move(list)) {}
  Value(DictPtr dict) : held_(std::move(dict)) {}
  Value(ObjectPtr object) : held_(std::move(object)) {}

  static Value undefined(std::string why);

  template <typename T>
  const T* get_if() const {
    return std::get_if<T>(&held_);
  }
  bool is_none() const { return get_if<None>() != nullptr; }
  bool is_undefined() const { return get_if<Undefined>() != nullptr; }
  bool is_text() const { return get_if<Text>() != nullptr; }
  const std::string* text() const { return get_if<Text>() ? get_if<Text>()->bytes.get() : nullptr; }
  const List* list() const { return get_if<ListPtr>() ? get_if<ListPtr>()->get() : nullptr; }
  const Dict* dict() const { return get_if<DictPtr>() ? get_if<DictPtr>()->get() : nullptr; }
  // An integer or a bool, which in Python is one.
  std::optional<std::int64_t> integer() const;
  std::optional<double> number() const;  // an integer, a bool or a float
  Object* object() const { return get_if<ObjectPtr>() ? get_if<ObjectPtr>()->get() : nullptr; }

 private:
  std::variant<None, Undefined, bool, std::int64_t, double, Text, ListPtr, DictPtr, ObjectPtr> held_;
};

enum class ListKind : std::uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kIterator };

// Everything that can be walked through. A kIterator can be walked through once: `taken` of its items are
// gone.
struct List {
  std::vector<Value> items;
  ListKind kind = ListKind::kList;
  std::int64_t start = 0, stop = 0, step = 1;  // of a kRange
  mutable std::size_t taken = 0;
  int depth = 1;
  std::int64_t parts = 1;  // values inside, those in several places counted in each
};

// In order of insertion. Filled once, by make_dict().
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_map<std::string_view, std::size_t> by_text;  // the keys that are strings
  int depth = 1;
  std::int64_t parts = 1;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

class Interpreter;

// What has identity: namespaces, macros, `loop`, functions and methods.
class Object : public std::enable_shared_from_this<Object> {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  // nullopt: no such attribute.
  virtual std::optional<Value> attribute(Interpreter& interpreter, const std::string& name);
  virtual Value call(Interpreter& interpreter, Arguments arguments);
  virtual bool is_callable() const { return false; }
  virtual void release() {}  // drops what may point back to this object
};

// Errors of all that follows: kMalformed, which the interpreter completes with the line.

// Errors: nested deeper than kMaxValueDepth, more than kMaxValueParts.
Value make_list(std::vector<Value> items, ListKind kind = ListKind::kList);
inline Value make_tuple(std::vector<Value> items) { return make_list(std::move(items), ListKind::kTuple); }
// A key that comes again replaces the value and keeps its place, as in Python.
Value make_dict(std::vector<std::pair<Value, Value>> entries);

std::int64_t parts_of(const Value& value);  // 1 for what is neither a list nor a dict

bool truth_of(const Value& value);
std::string type_name_of(const Value& value);  // "str", "list", ...
std::string a_type_of(const Value& value);     // "a str", "an int": for errors

std::string to_text(const Value& value);    // Python's str(): strings as they are
std::string repr_of(const Value& value);    // Python's repr(): strings in quotes
std::string float_text(double value);       // "1.0", "1e-05", "inf"
std::string quoted(std::string_view text);  // repr() of a string

bool equal(const Value& a, const Value& b);
// Negative, 0 or positive as a < b, a == b, a > b. `op` is named in the error for what has no order.
int compare(const Value& a, const Value& b, const char* op);

// What a `for` would see, in order. A kIterator's items are gone afterwards. Errors: not iterable.
std::vector<Value> items_of(const Value& value);
bool is_iterable(const Value& value);

// Characters (code points) of a valid UTF-8 text.
std::int64_t length_of(std::string_view text);

[[noreturn]] void fail(const std::string& sentence);         // kMalformed
[[noreturn]] void unsupported(const std::string& sentence);  // kUnsupported

}  // namespace qtool::jinja
