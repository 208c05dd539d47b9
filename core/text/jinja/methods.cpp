// Methods of Python's str, list, tuple and dict.
#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace qtool::jinja {
namespace {

using Method = Value (*)(Interpreter&, const Value& self, const Bound& given);

struct Row {
  const char* parameters;
  Method run;
};
using Table = std::map<std::string_view, Row>;

// --- str

const std::string& str(const Value& self) { return *self.text(); }

template <Side kSide>
Value stripped(Interpreter& interpreter, const Value& self, const Bound& given) {
  return interpreter.made(std::string(strip(str(self), kSide, given.optional_text(0))));
}

template <std::string (*kMap)(std::string_view)>
Value mapped(Interpreter& interpreter, const Value& self, const Bound&) {
  return interpreter.made(kMap(str(self)));
}

Value list_of(Interpreter& interpreter, const std::vector<std::string>& texts,
              ListKind kind = ListKind::kList) {
  std::vector<Value> items;
  for (const std::string& text : texts) {
    interpreter.charge_bytes(kValueBytes + static_cast<std::int64_t>(text.size()));
    items.emplace_back(text);
  }
  return make_list(std::move(items), kind);
}

template <std::vector<std::string> (*kSplit)(std::string_view, const std::optional<std::string>&,
                                             std::int64_t)>
Value parts(Interpreter& interpreter, const Value& self, const Bound& given) {
  return list_of(interpreter, kSplit(str(self), given.optional_text(0), given.integer(1, -1)));
}

// The characters [begin, end) that find(), count() and startswith() look at.
std::string_view window(Interpreter& interpreter, const Value& self, const Bound& given, std::size_t first,
                        std::int64_t* begin) {
  const std::int64_t size = length_of(str(self));
  interpreter.charge_steps(static_cast<std::int64_t>(str(self).size() / 64));
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    if (!given.has(i) || given[i].is_none()) return fallback;
    const std::int64_t at = given.integer(i, fallback);
    return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, INT64_MAX);
  };
  *begin = bound(first, 0);
  const std::int64_t end = std::min(bound(first + 1, size), size);
  if (*begin > end) return {};
  const std::size_t from = byte_of(str(self), *begin);
  const std::string_view rest = std::string_view(str(self)).substr(from);
  return rest.substr(0, byte_of(rest, end - *begin));
}

template <bool kAtEnd>
Value has_affix(Interpreter& interpreter, const Value& self, const Bound& given) {
  std::int64_t begin = 0;
  const std::string_view text = window(interpreter, self, given, 1, &begin);
  const auto fits = [&](const Value& affix) {
    if (!affix.text())
      fail(std::string(kAtEnd ? "endswith" : "startswith") + "() needs strings, not " + a_type_of(affix));
    const std::string& part = *affix.text();
    if (begin > length_of(str(self)) || part.size() > text.size()) return false;
    return text.substr(kAtEnd ? text.size() - part.size() : 0, part.size()) == part;
  };
  const List* several = given[0].list();
  if (!several || several->kind != ListKind::kTuple) return fits(given[0]);
  return std::any_of(several->items.begin(), several->items.end(), fits);
}

template <bool kFromRight, bool kMustExist>
Value found_at(Interpreter& interpreter, const Value& self, const Bound& given) {
  std::int64_t begin = 0;
  const std::string_view text = window(interpreter, self, given, 1, &begin);
  const std::size_t at = kFromRight ? text.rfind(given.text(0)) : text.find(given.text(0));
  const bool found = at != std::string_view::npos && begin <= length_of(str(self));
  if (!found && kMustExist) fail("index(): the substring is not found");
  return found ? begin + length_of(text.substr(0, at)) : std::int64_t{-1};
}

Value counted(Interpreter& interpreter, const Value& self, const Bound& given) {
  std::int64_t begin = 0;
  const std::string_view text = window(interpreter, self, given, 1, &begin);
  return begin > length_of(str(self)) ? 0 : count(text, given.text(0));
}

Value replaced(Interpreter& interpreter, const Value& self, const Bound& given) {
  const std::int64_t limit = given.integer(2, -1);
  interpreter.charge_bytes(replaced_bytes(str(self), given.text(0), given.text(1), limit));
  return replace(str(self), given.text(0), given.text(1), limit);
}

Value joined(Interpreter& interpreter, const Value& self, const Bound& given) {
  std::string out;
  bool first = true;
  for (const Value& item : items_of(given[0])) {
    if (!item.text()) fail("str.join() needs strings, not " + a_type_of(item));
    if (!first) out += str(self);
    first = false;
    out += *item.text();
    interpreter.charge_bytes(static_cast<std::int64_t>(item.text()->size() + str(self).size()));
  }
  return out;
}

template <bool kFromRight>
Value partitioned(Interpreter& interpreter, const Value& self, const Bound& given) {
  const std::string& separator = given.text(0);
  if (separator.empty()) fail("partition() with an empty separator");
  const std::string& text = str(self);
  const std::size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos)
    return list_of(
        interpreter,
        kFromRight ? std::vector<std::string>{"", "", text} : std::vector<std::string>{text, "", ""},
        ListKind::kTuple);
  return list_of(interpreter, {text.substr(0, at), separator, text.substr(at + separator.size())},
                 ListKind::kTuple);
}

template <bool kAtEnd>
Value without_affix(Interpreter& interpreter, const Value& self, const Bound& given) {
  std::string_view text = str(self);
  const std::string& part = given.text(0);
  if (part.size() <= text.size() && text.substr(kAtEnd ? text.size() - part.size() : 0, part.size()) == part)
    kAtEnd ? text.remove_suffix(part.size()) : text.remove_prefix(part.size());
  return interpreter.made(std::string(text));
}

// Whether all characters are of a kind, and there are any.
template <bool (*kIs)(char32_t)>
Value all_are(Interpreter&, const Value& self, const Bound&) {
  const std::string& text = str(self);
  for (std::size_t at = 0; at < text.size();)
    if (!kIs(next_code_point(text, at))) return false;
  return !text.empty();
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }
bool is_ascii(char32_t c) { return c < 0x80; }

// What isdigit() has besides the decimal digits: superscripts and the like, by Unicode's Numeric_Type.
bool is_digit(char32_t c) {
  if (is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9) return true;
  if (c >= 0x80 && is_numeric(c))
    unsupported("isdigit() on U+" + std::to_string(c) + " (decimal) is not supported");
  return false;
}

// pad characters left and right of `self` to `width`.
Value padded(Interpreter& interpreter, const Value& self, const Bound& given, int left_of_2) {
  const std::int64_t width = given.integer(0, 0);
  const std::string fill = given.has(1) ? given.text(1) : " ";
  if (length_of(fill) != 1) fail("the fill character must be one character");
  const std::int64_t missing = std::max<std::int64_t>(width - length_of(str(self)), 0);
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(missing, static_cast<std::int64_t>(fill.size()), &bytes))
    fail("a width is too large");
  interpreter.charge_bytes(bytes);
  // center() puts the odd blank on the left where the width is odd, as CPython does.
  const std::int64_t left = left_of_2 == 1   ? missing / 2 + (missing & width & 1)
                            : left_of_2 == 2 ? missing
                                             : 0;
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += str(self);
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

Value zero_filled(Interpreter& interpreter, const Value& self, const Bound& given) {
  const std::int64_t missing = std::max<std::int64_t>(given.integer(0, 0) - length_of(str(self)), 0);
  interpreter.charge_bytes(missing);
  const std::size_t sign = !str(self).empty() && (str(self)[0] == '-' || str(self)[0] == '+') ? 1 : 0;
  return str(self).substr(0, sign) + std::string(static_cast<std::size_t>(missing), '0') +
         str(self).substr(sign);
}

Value lines(Interpreter& interpreter, const Value& self, const Bound& given) {
  return list_of(interpreter, split_lines(str(self), given.truth(0, false)));
}

template <bool (*kWanted)(char32_t), bool (*kOther)(char32_t)>
Value cased(Interpreter&, const Value& self, const Bound&) {
  bool any = false;
  for (std::size_t at = 0; at < str(self).size();) {
    const char32_t c = next_code_point(str(self), at);
    if (kOther(c)) return false;
    any = any || kWanted(c);
  }
  return any;
}

const Table kStrMethods = {
    {"strip", {"chars", stripped<Side::kBoth>}},
    {"lstrip", {"chars", stripped<Side::kLeft>}},
    {"rstrip", {"chars", stripped<Side::kRight>}},
    {"upper", {"", mapped<upper>}},
    {"lower", {"", mapped<lower>}},
    {"title", {"", mapped<title>}},
    {"capitalize", {"", mapped<capitalize>}},
    {"swapcase", {"", mapped<swapcase>}},
    {"split", {"sep maxsplit", parts<split>}},
    {"rsplit", {"sep maxsplit", parts<rsplit>}},
    {"splitlines", {"keepends", lines}},
    {"startswith", {"prefix! start end", has_affix<false>}},
    {"endswith", {"suffix! start end", has_affix<true>}},
    {"find", {"sub! start end", found_at<false, false>}},
    {"rfind", {"sub! start end", found_at<true, false>}},
    {"index", {"sub! start end", found_at<false, true>}},
    {"rindex", {"sub! start end", found_at<true, true>}},
    {"count", {"sub! start end", counted}},
    {"replace", {"old! new! count", replaced}},
    {"join", {"iterable!", joined}},
    {"partition", {"sep!", partitioned<false>}},
    {"rpartition", {"sep!", partitioned<true>}},
    {"removeprefix", {"prefix!", without_affix<false>}},
    {"removesuffix", {"suffix!", without_affix<true>}},
    {"isalpha", {"", all_are<is_alpha>}},
    {"isalnum", {"", all_are<is_alnum>}},
    {"isdigit", {"", all_are<is_digit>}},
    {"isdecimal", {"", all_are<is_decimal>}},
    {"isspace", {"", all_are<is_space>}},
    {"isascii",
     {"", [](Interpreter& i, const Value& s,
             const Bound& g) { return str(s).empty() ? Value(true) : all_are<is_ascii>(i, s, g); }}},
    {"isupper", {"", cased<is_upper, is_lower>}},
    {"islower", {"", cased<is_lower, is_upper>}},
    {"ljust",
     {"width! fillchar", [](Interpreter& i, const Value& s, const Bound& g) { return padded(i, s, g, 0); }}},
    {"center",
     {"width! fillchar", [](Interpreter& i, const Value& s, const Bound& g) { return padded(i, s, g, 1); }}},
    {"rjust",
     {"width! fillchar", [](Interpreter& i, const Value& s, const Bound& g) { return padded(i, s, g, 2); }}},
    {"zfill", {"width!", zero_filled}},
};

// --- list, tuple and dict

Value position(Interpreter& interpreter, const Value& self, const Bound& given) {
  const std::vector<Value>& items = self.list()->items;
  interpreter.charge_steps(self.list()->parts);
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(items[i], given[0])) return static_cast<std::int64_t>(i);
  fail("index(): the value is not in the list");
}

Value occurrences(Interpreter& interpreter, const Value& self, const Bound& given) {
  interpreter.charge_steps(self.list()->parts);
  return static_cast<std::int64_t>(
      std::count_if(self.list()->items.begin(), self.list()->items.end(),
                    [&given](const Value& item) { return equal(item, given[0]); }));
}

Value itself(Interpreter&, const Value& self, const Bound&) { return self; }

template <ListKind kKind>
Value view(Interpreter& interpreter, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->entries)
    items.push_back(kKind == ListKind::kKeys     ? key
                    : kKind == ListKind::kValues ? value
                                                 : make_tuple({key, value}));
  interpreter.charge_bytes(static_cast<std::int64_t>(items.size()) * 4 * kValueBytes);
  return make_list(std::move(items), kKind);
}

Value got(Interpreter&, const Value& self, const Bound& given) {
  const Value* value = self.dict()->find(given[0]);
  return value ? *value : given[1];
}

const Table kTupleMethods = {{"index", {"value!", position}}, {"count", {"value!", occurrences}}};
const Table kListMethods = {
    {"index", {"value!", position}}, {"count", {"value!", occurrences}}, {"copy", {"", itself}}};
const Table kDictMethods = {{"items", {"", view<ListKind::kItems>}},
                            {"keys", {"", view<ListKind::kKeys>}},
                            {"values", {"", view<ListKind::kValues>}},
                            {"get", {"key! default", got}},
                            {"copy", {"", itself}}};

// A method together with the value it was asked of.
class BoundMethod final : public Object {
 public:
  BoundMethod(Value self, std::string_view name, const Row* row)
      : self_(std::move(self)), name_(name), row_(row) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }

  Value call(Interpreter& interpreter, Arguments arguments) override {
    const std::string what = type_name_of(self_) + "." + std::string(name_) + "()";
    if (self_.is_text()) {
      if (self_.get_if<Text>()->markup)
        unsupported(what + " (what the filters safe and escape made) is not supported");
      interpreter.charge_steps(static_cast<std::int64_t>(str(self_).size() / 64));
    }
    if (!row_) return interpreter.made(brace_format(interpreter, str(self_), arguments));
    return row_->run(interpreter, self_, Bound(what, row_->parameters, std::move(arguments)));
  }

 private:
  Value self_;
  std::string_view name_;
  const Row* row_;  // null: str.format(), which takes any arguments
};

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What Python's types have and qtool does not.
void refuse_known(const Value& subject, const std::string& name) {
  const bool known =
      (subject.is_text() &&
       is_one_of(name, {"casefold", "encode", "expandtabs", "format_map", "isidentifier", "isnumeric",
                        "isprintable", "istitle", "maketrans", "translate"})) ||
      (subject.integer() &&
       is_one_of(name, {"bit_length", "bit_count", "real", "imag", "numerator", "denominator", "conjugate",
                        "to_bytes", "from_bytes", "as_integer_ratio", "is_integer"})) ||
      (subject.get_if<double>() &&
       is_one_of(name, {"is_integer", "hex", "real", "imag", "conjugate", "as_integer_ratio"})) ||
      (subject.dict() && name == "fromkeys");
  if (known) unsupported("the method '" + name + "' of " + type_name_of(subject) + " is not supported");
}

// Methods that change their object exist, but using them is an error: the value is undefined.
bool modifies(const Value& subject, std::string_view name) {
  if (subject.dict()) return is_one_of(name, {"clear", "pop", "popitem", "setdefault", "update"});
  return subject.list() && subject.list()->kind == ListKind::kList &&
         is_one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
}

}  // namespace

std::optional<Value> method_of(const Value& subject, const std::string& name) {
  const Table* table = nullptr;
  if (subject.is_text()) table = &kStrMethods;
  if (subject.dict()) table = &kDictMethods;
  if (const List* list = subject.list()) {
    if (list->kind == ListKind::kList) table = &kListMethods;
    if (list->kind == ListKind::kTuple || list->kind == ListKind::kRange) table = &kTupleMethods;
  }
  if (modifies(subject, name))
    return Value::undefined("'" + type_name_of(subject) + "." + name +
                            "' is unsafe: templates cannot change values");
  if (subject.is_text() && name == "format")
    return Value(ObjectPtr(std::make_shared<BoundMethod>(subject, "format", nullptr)));
  refuse_known(subject, name);
  if (!table) return std::nullopt;
  const auto row = table->find(name);
  if (row == table->end()) return std::nullopt;
  return Value(ObjectPtr(std::make_shared<BoundMethod>(subject, row->first, &row->second)));
}

}  // namespace qtool::jinja
