// Python's str() and repr(): how values look in the output.
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/value.h"
#include "core/text/utf8.h"

namespace qtool::jinja {

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The shortest digits that give the value back, as Python's repr; its rule says where an exponent is used.
  char buffer[32];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (value != 0.0 && (exponent < -4 || exponent >= 16)) return text;
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string plain(buffer, fixed.ptr);
  return plain.find('.') == std::string::npos ? plain + ".0" : plain;
}

std::string quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    const auto hex = [&out, c](char kind, int digits) {
      out += {'\\', kind};
      for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[c >> shift & 15];
    };
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += {'\\', static_cast<char>(c)};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      append_code_point(out, c);
    } else if (c < 0x100) {
      hex('x', 2);
    } else if (c < 0x10000) {
      hex('u', 4);
    } else {
      hex('U', 8);
    }
  }
  return out + quote;
}

namespace {

void append_repr(std::string& out, const Value& value);

void append_items(std::string& out, const std::vector<Value>& items, const char* open, const char* close) {
  out += open;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, items[i]);
  }
  out += close;
}

void append_list(std::string& out, const List& list) {
  switch (list.kind) {
    case ListKind::kList:
      return append_items(out, list.items, "[", "]");
    case ListKind::kTuple:
      return append_items(out, list.items, "(", list.items.size() == 1 ? ",)" : ")");
    case ListKind::kKeys:
      return append_items(out, list.items, "dict_keys([", "])");
    case ListKind::kValues:
      return append_items(out, list.items, "dict_values([", "])");
    case ListKind::kItems:
      return append_items(out, list.items, "dict_items([", "])");
    case ListKind::kRange:
      out += "range(" + std::to_string(list.start) + ", " + std::to_string(list.stop);
      if (list.step != 1) out += ", " + std::to_string(list.step);
      out += ")";
      return;
    case ListKind::kIterator:
      unsupported("an iterator is printed, which shows a memory address in Python; add the filter 'list'");
  }
}

void append_repr(std::string& out, const Value& value) {
  if (value.is_none()) {
    out += "None";
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (const auto* boolean = value.get_if<bool>()) {
    out += *boolean ? "True" : "False";
  } else if (const auto* integer = value.get_if<std::int64_t>()) {
    out += std::to_string(*integer);
  } else if (const auto* number = value.get_if<double>()) {
    out += float_text(*number);
  } else if (const Text* text = value.get_if<Text>()) {
    out += text->markup ? "Markup(" + quoted(*text->bytes) + ")" : quoted(*text->bytes);
  } else if (const List* list = value.list()) {
    append_list(out, *list);
  } else if (const Dict* dict = value.dict()) {
    out += "{";
    for (std::size_t i = 0; i < dict->entries.size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(out, dict->entries[i].first);
      out += ": ";
      append_repr(out, dict->entries[i].second);
    }
    out += "}";
  } else {
    unsupported(a_type_of(value) + " is printed, which Python shows in its own notation");
  }
  // Values share their parts, so a small one may print as a large text.
  if (out.size() > kMaxReprBytes) fail("a value prints as more than 64 MiB of text");
}

}  // namespace

std::string repr_of(const Value& value) {
  std::string out;
  append_repr(out, value);
  return out;
}

std::string to_text(const Value& value) {
  if (const std::string* text = value.text()) return *text;
  if (value.is_undefined()) return "";
  return repr_of(value);
}

}  // namespace qtool::jinja
