// json.dumps() of Python, for the filter `tojson`.
#include <algorithm>
#include <cmath>

#include "core/text/jinja/builtins.h"
#include "core/text/utf8.h"

namespace qtool::jinja {
namespace {

class Writer {
 public:
  Writer(Interpreter& interpreter, bool ensure_ascii, const Value& indent, const Value& separators,
         bool sort_keys)
      : interpreter_(interpreter), ensure_ascii_(ensure_ascii), sort_keys_(sort_keys) {
    if (const std::string* text = indent.text()) {
      indent_ = *text;
    } else if (!indent.is_none()) {
      if (!indent.integer()) fail("tojson: indent must be a number or a string");
      const std::int64_t width = std::max<std::int64_t>(*indent.integer(), 0);
      if (width > 1000) fail("tojson: indent is over 1000");
      indent_ = std::string(static_cast<std::size_t>(width), ' ');
    }
    if (indent_) between_ = ",";
    if (separators.is_none()) return;
    const std::vector<Value> two = items_of(separators);
    if (two.size() != 2 || !two[0].text() || !two[1].text()) fail("tojson: separators must be two strings");
    between_ = *two[0].text();
    colon_ = *two[1].text();
  }

  std::string written(const Value& value) {
    write(value, 0);
    return std::move(out_);
  }

 private:
  void write(const Value& value, int level) {
    interpreter_.charge_steps(1);
    const std::size_t before = out_.size();
    if (const std::string* text = value.text()) {
      string(*text);
    } else if (const List* list = value.list()) {
      if (list->kind != ListKind::kList && list->kind != ListKind::kTuple) refuse(value);
      row('[', ']', list->items.size(), level, [&](std::size_t i) { write(list->items[i], level + 1); });
    } else if (const Dict* dict = value.dict()) {
      object(*dict, level);
    } else {
      scalar(value);
    }
    interpreter_.charge_bytes(static_cast<std::int64_t>(out_.size() - before));
  }

  [[noreturn]] static void refuse(const Value& value) {
    if (const auto* undefined = value.get_if<Undefined>()) fail("tojson: " + *undefined->why);
    fail("tojson: " + a_type_of(value) + " has no form in JSON");
  }

  void scalar(const Value& value) {
    if (value.is_none())
      out_ += "null";
    else if (const bool* boolean = value.get_if<bool>())
      out_ += *boolean ? "true" : "false";
    else if (const auto* integer = value.get_if<std::int64_t>())
      out_ += std::to_string(*integer);
    else if (const double* number = value.get_if<double>())
      out_ += std::isnan(*number)   ? "NaN"
              : std::isinf(*number) ? (*number < 0 ? "-Infinity" : "Infinity")
                                    : float_text(*number);
    else
      refuse(value);
  }

  template <typename WriteItem>
  void row(char open, char close, std::size_t count, int level, const WriteItem& write_item) {
    out_ += open;
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) out_ += between_;
      new_line(level + 1);
      write_item(i);
    }
    if (count > 0) new_line(level);
    out_ += close;
  }

  void object(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (sort_keys_)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return compare(a->first, b->first, "<") < 0; });
    row('{', '}', entries.size(), level, [&](std::size_t i) {
      const Value& key = entries[i]->first;
      if (key.text()) {
        string(*key.text());
      } else {
        if (key.list() || key.object()) refuse(key);
        out_ += '"';
        scalar(key);
        out_ += '"';
      }
      out_ += colon_;
      write(entries[i]->second, level + 1);
    });
  }

  void new_line(int level) {
    if (!indent_) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *indent_;
    interpreter_.charge_bytes(static_cast<std::int64_t>(indent_->size()) * level);
  }

  void hex(unsigned unit) {
    out_ += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out_ += "0123456789abcdef"[unit >> shift & 15];
  }

  void string(std::string_view text) {
    out_ += '"';
    for (std::size_t at = 0; at < text.size();) {
      const char32_t c = next_code_point(text, at);
      constexpr std::string_view kPlain = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
      const std::size_t letter = c < 0x80 ? kPlain.find(static_cast<char>(c)) : std::string_view::npos;
      if (letter != std::string_view::npos) {
        out_ += {'\\', kLetters[letter]};
      } else if (c < 0x20 || (ensure_ascii_ && c > 0x7E && c < 0x10000 && c != 0x7F)) {
        hex(static_cast<unsigned>(c));
      } else if (ensure_ascii_ && c >= 0x10000) {
        hex(static_cast<unsigned>(0xD800 + ((c - 0x10000) >> 10)));
        hex(static_cast<unsigned>(0xDC00 + ((c - 0x10000) & 0x3FF)));
      } else {
        append_code_point(out_, c);
      }
    }
    out_ += '"';
  }

  Interpreter& interpreter_;
  bool ensure_ascii_, sort_keys_;
  std::optional<std::string> indent_;
  std::string between_ = ", ", colon_ = ": ";
  std::string out_;
};

}  // namespace

std::string json_text(Interpreter& interpreter, const Value& value, bool ensure_ascii, const Value& indent,
                      const Value& separators, bool sort_keys) {
  return Writer(interpreter, ensure_ascii, indent, separators, sort_keys).written(value);
}

}  // namespace qtool::jinja
