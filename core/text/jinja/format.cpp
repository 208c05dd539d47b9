// "..." % values and str.format(), as far as templates use them: what is left out is refused by name.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/strings.h"

namespace qtool::jinja {
namespace {

// One %-field: %[(name)][flags][width][.precision]kind
struct Field {
  std::string name;
  bool named = false;
  std::string flags;
  int width = 0;
  int precision = -1;
  char kind = '\0';
};

class PercentFormat {
 public:
  PercentFormat(const std::string& format, const Value& values) : format_(format), values_(values) {
    const List* list = values.list();
    if (list && list->kind == ListKind::kTuple)
      row_ = list->items;
    else
      row_ = {values};
  }

  std::string formatted() {
    std::string out;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out += format_[at_++];
        continue;
      }
      ++at_;
      const Field field = read_field();
      out += field.kind == '%' ? "%" : shown(field);
    }
    if (!any_named_ && next_ < row_.size() && !values_.dict())
      fail("'%' is given more values than the string has fields");
    return out;
  }

 private:
  Field read_field() {
    Field field;
    if (peek() == '(') {
      const std::size_t end = format_.find(')', at_);
      if (end == std::string::npos) fail("'%(' without ')' in a format");
      field.name = format_.substr(at_ + 1, end - at_ - 1);
      field.named = any_named_ = true;
      at_ = end + 1;
    }
    while (peek() != '\0' && std::string_view("-+ 0#").find(peek()) != std::string_view::npos)
      field.flags += format_[at_++];
    field.width = read_number();
    if (peek() == '.') {
      ++at_;
      field.precision = read_number();
    }
    if (peek() == '*') unsupported("'*' in a format is not supported");
    field.kind = peek();
    if (field.kind == '\0') fail("a format ends inside a field");
    ++at_;
    return field;
  }

  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  int read_number() {
    int number = 0;
    while (peek() >= '0' && peek() <= '9') {
      number = number * 10 + (format_[at_++] - '0');
      if (number > kMaxFormatWidth) fail("a width in a format is over " + std::to_string(kMaxFormatWidth));
    }
    return number;
  }

  Value take(const Field& field) {
    if (field.named) {
      const Dict* dict = values_.dict();
      if (!dict) fail("a format with names needs a dict");
      const Value* value = dict->find(std::string_view(field.name));
      if (!value) fail("a format names '" + escaped(field.name) + "', which is not given");
      return *value;
    }
    if (next_ >= row_.size()) fail("'%' is given fewer values than the string has fields");
    return row_[next_++];
  }

  std::string shown(const Field& field) {
    const Value value = take(field);
    const auto has = [&field](char flag) { return field.flags.find(flag) != std::string::npos; };
    if (field.kind == 's' || field.kind == 'r') {
      std::string text = field.kind == 's' ? to_text(value) : repr_of(value);
      if (field.precision >= 0) text.resize(byte_of(text, field.precision));
      return padded(std::move(text), field.width, has('-'));
    }
    if (has('#')) unsupported("'#' in a format is not supported");
    std::string directive = "%";
    for (const char flag : field.flags) directive += flag;
    if (std::string_view("dixXo").find(field.kind) != std::string_view::npos) {
      std::optional<std::int64_t> number = value.integer();
      if (!number && value.number() && (field.kind == 'd' || field.kind == 'i')) {
        if (std::abs(*value.number()) >= 9e18 || std::isnan(*value.number()))
          fail("a number does not fit '%d'");
        number = static_cast<std::int64_t>(*value.number());
      }
      if (!number) fail(std::string("'%") + field.kind + "' needs an integer, not " + a_type_of(value));
      if (field.kind != 'd' && field.kind != 'i' && *number < 0)
        unsupported("negative numbers in '%x' are not supported");
      return printed(directive + "*.*ll" + field.kind, field, static_cast<long long>(*number));
    }
    if (std::string_view("fFeEgG").find(field.kind) != std::string_view::npos) {
      if (!value.number()) fail(std::string("'%") + field.kind + "' needs a number, not " + a_type_of(value));
      return printed(directive + "*.*" + field.kind, field, *value.number());
    }
    unsupported(std::string("'%") + escaped(std::string(1, field.kind)) + "' in a format is not supported");
  }

  template <typename Number>
  static std::string printed(const std::string& directive, const Field& field, Number number) {
    const int length = std::snprintf(nullptr, 0, directive.c_str(), field.width, field.precision, number);
    std::string text(static_cast<std::size_t>(length) + 1, '\0');
    std::snprintf(text.data(), text.size(), directive.c_str(), field.width, field.precision, number);
    text.pop_back();
    return text;
  }

  static std::string padded(std::string text, int width, bool left) {
    const std::int64_t missing = std::max<std::int64_t>(width - length_of(text), 0);
    text.insert(left ? text.size() : 0, static_cast<std::size_t>(missing), ' ');
    return text;
  }

  const std::string& format_;
  const Value& values_;
  std::vector<Value> row_;
  std::size_t at_ = 0, next_ = 0;
  bool any_named_ = false;
};

}  // namespace

std::string percent_format(Interpreter&, const std::string& format, const Value& values) {
  return PercentFormat(format, values).formatted();
}

std::string brace_format(Interpreter& interpreter, const std::string& format, const Arguments& arguments) {
  std::string out;
  std::size_t next = 0;
  bool counts = false, numbers = false;  // {} and {0} do not mix
  for (std::size_t at = 0; at < format.size();) {
    const char c = format[at];
    const bool doubled = at + 1 < format.size() && format[at + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      out += c;
      at += 2;
    } else if (c == '}') {
      fail("a single '}' in the format of format()");
    } else if (c != '{') {
      out += c;
      ++at;
    } else {
      const std::size_t end = format.find('}', at);
      if (end == std::string::npos) fail("a '{' without '}' in the format of format()");
      const std::string name = format.substr(at + 1, end - at - 1);
      at = end + 1;
      if (name.find_first_of("!:.[{") != std::string::npos)
        unsupported("format(): the field {" + escaped(name.substr(0, 60)) +
                    "} is not supported; only {}, {0} and {name} are");
      const bool number = name.find_first_not_of("0123456789") == std::string::npos;
      const Value* value = nullptr;
      if (number) {
        (name.empty() ? counts : numbers) = true;
        if (counts && numbers) fail("format() with both {} and {0}");
        const std::size_t index = name.empty() ? next++ : name.size() < 6 ? std::stoul(name) : SIZE_MAX;
        if (index < arguments.positional.size()) value = &arguments.positional[index];
      }
      for (const auto& [known, given] : arguments.keyword)
        if (!number && known == name) value = &given;
      if (!value) fail("format() is not given {" + escaped(name.substr(0, 60)) + "}");
      const std::string part = to_text(*value);
      interpreter.charge_bytes(static_cast<std::int64_t>(part.size()));
      out += part;
    }
  }
  return out;
}

}  // namespace qtool::jinja
