// Python's operators: integers of 64 bits (an overflow is an error, where Python's would grow), floats,
// strings, lists.
#include <algorithm>
#include <cmath>

#include "core/text/jinja/builtins.h"
#include "core/text/jinja/strings.h"

namespace qtool::jinja {
namespace {

constexpr double kExactInDouble = 9007199254740992.0;  // 2^53

[[noreturn]] void wrong_types(const std::string& op, const Value& a, const Value& b) {
  if (const auto* undefined = a.get_if<Undefined>()) fail(*undefined->why);
  if (const auto* undefined = b.get_if<Undefined>()) fail(*undefined->why);
  fail("'" + op + "' does not work between " + a_type_of(a) + " and " + a_type_of(b));
}

[[noreturn]] void overflow(const std::string& op) { fail("the result of '" + op + "' does not fit 64 bits"); }

// Rounded towards minus infinity, as Python divides.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double float_remainder(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0.0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_floor_divide(double a, double b) {
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0.0 && (rest < 0) != (b < 0)) quotient -= 1.0;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

Value power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  std::int64_t result = 1;
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(result, base, &result)) overflow("**");
  return result;
}

Value integers(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  if (op == "+" && !__builtin_add_overflow(a, b, &result)) return result;
  if (op == "-" && !__builtin_sub_overflow(a, b, &result)) return result;
  if (op == "*" && !__builtin_mul_overflow(a, b, &result)) return result;
  if (op == "**") return power(a, b);
  if (op == "+" || op == "-" || op == "*") overflow(op);
  if (b == 0) fail("'" + op + "' by zero");
  if (op == "/") {
    if (std::abs(static_cast<double>(a)) > kExactInDouble ||
        std::abs(static_cast<double>(b)) > kExactInDouble)
      unsupported("'/' of integers above 2^53 is not supported");
    return static_cast<double>(a) / static_cast<double>(b);
  }
  if (b == -1) {  // the one division that can overflow
    if (op == "%") return 0;
    if (a == INT64_MIN) overflow(op);
    return -a;
  }
  const std::int64_t quotient = floor_divide(a, b);
  return op == "//" ? quotient : a - quotient * b;
}

Value floats(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    if (a == 0.0 && b < 0.0) fail("0 cannot be raised to a negative power");
    if (a < 0.0 && std::isfinite(b) && b != std::floor(b)) unsupported("complex numbers are not supported");
    const double result = std::pow(a, b);
    if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) fail("the result of '**' is too large");
    return result;
  }
  if (b == 0.0) fail("'" + op + "' by zero");
  if (op == "/") return a / b;
  return op == "//" ? float_floor_divide(a, b) : float_remainder(a, b);
}

bool is_plain_list(const Value& value) {
  return value.list() && (value.list()->kind == ListKind::kList || value.list()->kind == ListKind::kTuple);
}

Value add_texts(Interpreter& interpreter, const Text& a, const Text& b) {
  // What is not markup is escaped where it meets markup.
  const bool markup = a.markup || b.markup;
  const auto part = [markup](const Text& text) {
    return markup && !text.markup ? escaped_html(*text.bytes) : *text.bytes;
  };
  interpreter.charge_bytes(static_cast<std::int64_t>(a.bytes->size() + b.bytes->size()));
  return Text{std::make_shared<const std::string>(part(a) + part(b)), markup};
}

Value repeated(Interpreter& interpreter, const Value& value, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  const auto size =
      static_cast<std::int64_t>(value.text() ? value.text()->size() : value.list()->items.size()) *
      (value.text() ? 1 : kValueBytes);
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(size, times, &bytes)) fail("the result of '*' is too long");
  interpreter.charge_bytes(bytes);
  if (size == 0) times = 0;
  if (const Text* text = value.get_if<Text>()) {
    std::string out;
    for (; times > 0; --times) out += *text->bytes;
    return Text{std::make_shared<const std::string>(std::move(out)), text->markup};
  }
  std::vector<Value> items;
  for (; times > 0; --times)
    items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  return make_list(std::move(items), value.list()->kind);
}

}  // namespace

Value binary(Interpreter& interpreter, const std::string& op, const Value& a, const Value& b) {
  if (a.integer() && b.integer()) return integers(op, *a.integer(), *b.integer());
  if (a.number() && b.number()) return floats(op, *a.number(), *b.number());
  if (op == "+" && a.text() && b.text()) return add_texts(interpreter, *a.get_if<Text>(), *b.get_if<Text>());
  if (op == "+" && is_plain_list(a) && is_plain_list(b) && a.list()->kind == b.list()->kind) {
    std::vector<Value> items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    interpreter.charge_bytes(static_cast<std::int64_t>(items.size()) * kValueBytes);
    return make_list(std::move(items), a.list()->kind);
  }
  if (op == "*" && (a.text() || is_plain_list(a)) && b.integer())
    return repeated(interpreter, a, *b.integer());
  if (op == "*" && (b.text() || is_plain_list(b)) && a.integer())
    return repeated(interpreter, b, *a.integer());
  if (op == "%" && a.text()) {
    if (a.get_if<Text>()->markup) unsupported("'%' on markup (the filters safe and escape) is not supported");
    return interpreter.made(percent_format(interpreter, *a.text(), b));
  }
  wrong_types(op, a, b);
}

Value negative(const Value& value) {
  if (const auto integer = value.integer()) {
    if (*integer == INT64_MIN) overflow("-");
    return -*integer;
  }
  if (const auto number = value.number()) return -*number;
  if (const auto* undefined = value.get_if<Undefined>()) fail(*undefined->why);
  fail(a_type_of(value) + " has no negative");
}

Value positive(const Value& value) {
  if (const auto integer = value.integer()) return *integer;
  if (const auto number = value.number()) return *number;
  if (const auto* undefined = value.get_if<Undefined>()) fail(*undefined->why);
  fail("'+' does not work on " + a_type_of(value));
}

namespace {

// What comparing two values costs at most.
void charge_comparison(Interpreter& interpreter, const Value& a, const Value& b) {
  const std::int64_t bytes = a.text() && b.text() ? static_cast<std::int64_t>(a.text()->size()) / 256 : 0;
  interpreter.charge_steps(bytes + (a.list() || a.dict() ? parts_of(a) : 0));
}

}  // namespace

bool contains(Interpreter& interpreter, const Value& container, const Value& item) {
  if (const std::string* text = container.text()) {
    if (!item.text()) fail("'in' a string needs a string, not " + a_type_of(item));
    interpreter.charge_steps(static_cast<std::int64_t>(text->size() / 64));
    return text->find(*item.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(item) != nullptr;
  if (container.is_undefined()) return false;
  const List* list = container.list();
  if (!list) fail("'in' does not work on " + a_type_of(container));
  interpreter.charge_steps(list->parts);
  const std::vector<Value> walked =
      list->kind == ListKind::kIterator ? items_of(container) : std::vector<Value>();
  const std::vector<Value>& items = list->kind == ListKind::kIterator ? walked : list->items;
  return std::any_of(items.begin(), items.end(), [&item](const Value& one) { return equal(one, item); });
}

bool compares(Interpreter& interpreter, const std::string& op, const Value& a, const Value& b) {
  if (op == "in") return contains(interpreter, b, a);
  if (op == "not in") return !contains(interpreter, b, a);
  charge_comparison(interpreter, a, b);
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  const bool not_a_number =
      (a.number() && std::isnan(*a.number())) || (b.number() && std::isnan(*b.number()));
  const int order = compare(a, b, op.c_str());
  if (not_a_number) return false;
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

namespace {

struct Slice {
  std::int64_t begin, end, step;
};

// Python's slice.indices(): bounds brought inside [0, size], or [-1, size - 1] when walking backwards.
Slice bounded(const Value& begin, const Value& end, const Value& step, std::int64_t size) {
  Slice slice{0, 0, step.integer().value_or(1)};
  if (slice.step == 0) fail("the step of a slice cannot be 0");
  const bool back = slice.step < 0;
  const auto bound = [&](const Value& value, std::int64_t left_out) {
    if (value.is_none()) return left_out;
    const std::int64_t at = *value.integer();
    return std::clamp(at < 0 ? at + size : at, back ? std::int64_t{-1} : 0, back ? size - 1 : size);
  };
  slice.begin = bound(begin, back ? size - 1 : 0);
  slice.end = bound(end, back ? -1 : size);
  return slice;
}

std::vector<std::int64_t> positions(const Slice& slice) {
  std::vector<std::int64_t> list;
  // The step may be huge: what is left is compared, never overrun.
  for (std::int64_t at = slice.begin; slice.step > 0 ? at < slice.end : at > slice.end;) {
    list.push_back(at);
    if (__builtin_add_overflow(at, slice.step, &at)) break;
  }
  return list;
}

Value text_slice(Interpreter& interpreter, const Text& text, const Slice& slice) {
  const auto copy = [&text](std::string part) {
    return Text{std::make_shared<const std::string>(std::move(part)), text.markup};
  };
  std::string out;
  if (slice.step == 1) {
    if (slice.begin >= slice.end) return copy("");
    const std::size_t begin = byte_of(*text.bytes, slice.begin);
    const std::string_view rest = std::string_view(*text.bytes).substr(begin);
    out = rest.substr(0, byte_of(rest, slice.end - slice.begin));
  } else {
    interpreter.charge_bytes(static_cast<std::int64_t>(text.bytes->size() * sizeof(std::string_view)));
    const std::vector<std::string_view> all = characters(*text.bytes);
    for (const std::int64_t at : positions(slice)) out += all[static_cast<std::size_t>(at)];
  }
  interpreter.charge_bytes(static_cast<std::int64_t>(out.size()));
  return copy(std::move(out));
}

}  // namespace

Value slice(Interpreter& interpreter, const Value& subject, const Value& begin, const Value& end,
            const Value& step) {
  if (const auto* undefined = subject.get_if<Undefined>()) fail(*undefined->why);
  for (const Value* bound : {&begin, &end, &step})
    if (!bound->is_none() && !bound->integer())
      return Value::undefined("a slice needs integers, not " + a_type_of(*bound));
  if (const Text* text = subject.get_if<Text>()) {
    interpreter.charge_steps(static_cast<std::int64_t>(text->bytes->size() / 64));
    return text_slice(interpreter, *text, bounded(begin, end, step, length_of(*text->bytes)));
  }
  const List* list = subject.list();
  if (!list || (!is_plain_list(subject) && list->kind != ListKind::kRange))
    return Value::undefined(a_type_of(subject) + " cannot be sliced");
  const Slice bounds = bounded(begin, end, step, static_cast<std::int64_t>(list->items.size()));
  std::vector<Value> items;
  for (const std::int64_t at : positions(bounds)) items.push_back(list->items[static_cast<std::size_t>(at)]);
  interpreter.charge_bytes(static_cast<std::int64_t>(items.size()) * kValueBytes);
  if (list->kind != ListKind::kRange) return make_list(std::move(items), list->kind);
  auto range = std::make_shared<List>();
  range->items = std::move(items);
  range->kind = ListKind::kRange;
  range->parts = static_cast<std::int64_t>(range->items.size()) + 1;
  range->start = list->start + bounds.begin * list->step;
  range->stop = list->start + bounds.end * list->step;
  if (__builtin_mul_overflow(list->step, bounds.step, &range->step)) fail("the step of a slice is too large");
  return ListPtr(std::move(range));
}

}  // namespace qtool::jinja
