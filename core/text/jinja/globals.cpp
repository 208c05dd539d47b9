// Functions that templates can call, and how arguments find their parameters.
#include <algorithm>
#include <functional>
#include <map>

#include "core/error.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/macro.h"

namespace qtool::jinja {

Bound::Bound(const std::string& what, std::string_view names, Arguments arguments) : what_(what) {
  std::vector<std::string_view> parameters;
  std::vector<bool> required;
  while (!names.empty()) {
    std::string_view name = names.substr(0, names.find(' '));
    names.remove_prefix(std::min(name.size() + 1, names.size()));
    required.push_back(name.back() == '!');
    if (required.back()) name.remove_suffix(1);
    parameters.push_back(name);
  }
  if (arguments.positional.size() > parameters.size())
    fail(what + " takes at most " + std::to_string(parameters.size()) + " arguments");
  values_ = std::move(arguments.positional);
  given_.assign(values_.size(), true);
  values_.resize(parameters.size());
  given_.resize(parameters.size(), false);
  for (auto& [name, value] : arguments.keyword) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    const auto i = static_cast<std::size_t>(at - parameters.begin());
    if (at == parameters.end()) fail(what + " has no argument '" + name + "'");
    if (given_[i]) fail(what + " is given the argument '" + name + "' twice");
    values_[i] = std::move(value);
    given_[i] = true;
  }
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (required[i] && !given_[i]) fail(what + " needs the argument '" + std::string(parameters[i]) + "'");
}

std::int64_t Bound::integer(std::size_t i, std::int64_t fallback) const {
  if (!given_[i]) return fallback;
  if (const auto* undefined = values_[i].get_if<Undefined>()) fail(*undefined->why);
  if (!values_[i].integer()) fail(what_ + " needs an integer, not " + a_type_of(values_[i]));
  return *values_[i].integer();
}

const std::string& Bound::text(std::size_t i) const {
  if (const auto* undefined = values_[i].get_if<Undefined>()) fail(*undefined->why);
  if (!values_[i].text()) fail(what_ + " needs a string, not " + a_type_of(values_[i]));
  return *values_[i].text();
}

std::optional<std::string> Bound::optional_text(std::size_t i) const {
  if (values_[i].is_none()) return std::nullopt;
  return text(i);
}

namespace {

using Implementation = Value (*)(Interpreter&, Arguments);

class Function final : public Object {
 public:
  explicit Function(Implementation implementation) : implementation_(implementation) {}
  std::string_view type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments arguments) override {
    return implementation_(interpreter, std::move(arguments));
  }

 private:
  Implementation implementation_;
};

Value range(Interpreter& interpreter, Arguments arguments) {
  if (arguments.positional.size() == 1) arguments.positional.insert(arguments.positional.begin(), Value(0));
  const Bound given("range()", "start! stop! step", std::move(arguments));
  auto list = std::make_shared<List>();
  list->kind = ListKind::kRange;
  list->start = given.integer(0, 0);
  list->stop = given.integer(1, 0);
  list->step = given.integer(2, 1);
  if (list->step == 0) fail("range() with a step of 0");
  for (std::int64_t at = list->start; list->step > 0 ? at < list->stop : at > list->stop;) {
    if (static_cast<std::int64_t>(list->items.size()) == kMaxRange)
      fail("range() of more than " + std::to_string(kMaxRange) + " numbers");
    list->items.emplace_back(at);
    if (__builtin_add_overflow(at, list->step, &at)) break;
  }
  list->parts = static_cast<std::int64_t>(list->items.size()) + 1;
  interpreter.charge_bytes(list->parts * kValueBytes);
  return ListPtr(std::move(list));
}

// dict(mapping or pairs, name=value, ...)
std::vector<std::pair<Value, Value>> dict_entries(const char* what, Arguments arguments) {
  if (arguments.positional.size() > 1) fail(std::string(what) + " takes at most one argument without a name");
  std::vector<std::pair<Value, Value>> entries;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (const auto* undefined = source.get_if<Undefined>()) fail(*undefined->why);
    if (const Dict* dict = source.dict()) {
      entries = dict->entries;
    } else {
      for (const Value& pair : items_of(source)) {
        std::vector<Value> two = items_of(pair);
        if (two.size() != 2) fail(std::string(what) + " needs pairs");
        entries.emplace_back(std::move(two[0]), std::move(two[1]));
      }
    }
  }
  for (auto& [name, value] : arguments.keyword) entries.emplace_back(name, std::move(value));
  return entries;
}

Value dict(Interpreter& interpreter, Arguments arguments) {
  std::vector<std::pair<Value, Value>> entries = dict_entries("dict()", std::move(arguments));
  interpreter.charge_bytes(static_cast<std::int64_t>(entries.size() + 1) * 4 * kValueBytes);
  return make_dict(std::move(entries));
}

Value make_namespace(Interpreter& interpreter, Arguments arguments) {
  auto space = std::make_shared<Namespace>();
  for (auto& [name, value] : dict_entries("namespace()", std::move(arguments))) {
    if (!name.text()) fail("namespace() needs names that are strings");
    space->set(*name.text(), std::move(value));
  }
  interpreter.charge_bytes(kValueBytes * 8);
  interpreter.adopt(space);
  return ObjectPtr(std::move(space));
}

Value raise_exception(Interpreter&, Arguments arguments) {
  const Bound given("raise_exception()", "message!", std::move(arguments));
  throw Error(ExitCode::kUsage,
              "the chat template refuses these messages: " + escaped(to_text(given[0]).substr(0, 1000)));
}

// Python's strftime of a time without zone: the C library's, but for %f and the zone.
Value strftime_now(Interpreter& interpreter, Arguments arguments) {
  const Bound given("strftime_now()", "format!", std::move(arguments));
  std::string format;
  const std::string& wanted = given.text(0);
  if (wanted.size() > 1000) fail("strftime_now() with a format of over 1000 characters");
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const char kind = wanted[i] == '%' && i + 1 < wanted.size() ? wanted[i + 1] : '\0';
    if (kind == 'f') format += "000000";
    if (kind == 'f' || kind == 'z' || kind == 'Z') {
      ++i;
      continue;
    }
    format += wanted[i];
    if (kind == '%') format += wanted[++i];
  }
  if (format.empty()) return "";
  // A text in front, since an empty result and one that does not fit look the same.
  std::string text(format.size() * 64 + 64, '\0');
  const std::size_t length =
      std::strftime(text.data(), text.size(), ("." + format).c_str(), &interpreter.now());
  if (length == 0) fail("strftime_now() does not understand its format");
  return interpreter.made(text.substr(1, length - 1));
}

// cycler(): its values one after the other, again and again.
class Cycler final : public Object {
 public:
  explicit Cycler(std::vector<Value> values) : values_(std::move(values)) {}
  std::string_view type_name() const override { return "Cycler"; }

  std::optional<Value> attribute(Interpreter&, const std::string& name) override {
    if (name == "current") return values_[at_];
    if (name == "next" || name == "reset")
      return Value(ObjectPtr(std::make_shared<Method>(self(), name == "next")));
    return std::nullopt;
  }

 private:
  class Method final : public Object {
   public:
    Method(std::shared_ptr<Cycler> cycler, bool next) : cycler_(std::move(cycler)), next_(next) {}
    std::string_view type_name() const override { return "method"; }
    bool is_callable() const override { return true; }
    Value call(Interpreter&, Arguments arguments) override {
      const Bound given("a cycler's method", "", std::move(arguments));
      const std::size_t at = cycler_->at_;
      cycler_->at_ = next_ ? (at + 1) % cycler_->values_.size() : 0;
      return next_ ? cycler_->values_[at] : Value();
    }

   private:
    std::shared_ptr<Cycler> cycler_;
    bool next_;
  };

  std::shared_ptr<Cycler> self() { return std::static_pointer_cast<Cycler>(shared_from_this()); }

  std::vector<Value> values_;
  std::size_t at_ = 0;
};

Value cycler(Interpreter&, Arguments arguments) {
  if (arguments.positional.empty() || !arguments.keyword.empty()) fail("cycler() needs values without names");
  return ObjectPtr(std::make_shared<Cycler>(std::move(arguments.positional)));
}

// joiner(): nothing at the first call, the separator at every later one.
class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool is_callable() const override { return true; }
  Value call(Interpreter&, Arguments arguments) override {
    const Bound given("a joiner", "", std::move(arguments));
    return std::exchange(used_, true) ? separator_ : Value("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value joiner(Interpreter&, Arguments arguments) {
  const Bound given("joiner()", "sep", std::move(arguments));
  return ObjectPtr(std::make_shared<Joiner>(given.has(0) ? given[0] : Value(", ")));
}

}  // namespace

const Value* global_named(std::string_view name) {
  static const std::map<std::string_view, Value> kFunctions = [] {
    std::map<std::string_view, Value> table;
    const std::pair<const char*, Implementation> rows[] = {{"range", range},
                                                           {"dict", dict},
                                                           {"namespace", make_namespace},
                                                           {"raise_exception", raise_exception},
                                                           {"strftime_now", strftime_now},
                                                           {"cycler", cycler},
                                                           {"joiner", joiner}};
    for (const auto& [known, function] : rows)
      table.emplace(known, ObjectPtr(std::make_shared<Function>(function)));
    return table;
  }();
  const auto found = kFunctions.find(name);
  return found == kFunctions.end() ? nullptr : &found->second;
}

}  // namespace qtool::jinja
