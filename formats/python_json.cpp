// JSON text as Python's json.dumps(value, indent=2, sort_keys=True) prints it.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/quant/weight.h"
#include "formats/json.h"

namespace qtool {
namespace {

void print_unit(unsigned unit, std::string& out) {  // one UTF-16 code unit
  static constexpr char kHex[] = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(unit >> shift) & 0xfu];
}

// The code point that begins at text[i]; advances i behind it.
char32_t next_code_point(const std::string& text, std::size_t& i) {
  const auto byte = [&](std::size_t at) -> unsigned {
    if (at >= text.size()) throw Error(ExitCode::kMalformed, "a JSON string is not valid UTF-8");
    return static_cast<unsigned char>(text[at]);
  };
  const unsigned lead = byte(i++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
  if (more == 0 || lead > 0xf4) throw Error(ExitCode::kMalformed, "a JSON string is not valid UTF-8");
  char32_t point = lead & (0x3fu >> more);
  for (int k = 0; k < more; ++k) {
    const unsigned next = byte(i++);
    if ((next & 0xc0u) != 0x80u) throw Error(ExitCode::kMalformed, "a JSON string is not valid UTF-8");
    point = (point << 6) | (next & 0x3fu);
  }
  return point;
}

// ensure_ascii: everything but printable ASCII is escaped, code points beyond U+FFFF as surrogate pairs.
void print_string(const std::string& text, std::string& out) {
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const char32_t point = next_code_point(text, i);
    switch (point) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (point >= 0x20 && point < 0x7f) {
          out += static_cast<char>(point);
        } else if (point < 0x10000) {
          print_unit(point, out);
        } else {
          print_unit(0xd800u + ((point - 0x10000u) >> 10), out);
          print_unit(0xdc00u + ((point - 0x10000u) & 0x3ffu), out);
        }
    }
  }
  out += '"';
}

void print_value(const Json& value, std::size_t indent, std::string& out) {
  const std::string line = "\n" + std::string(indent + 2, ' ');
  const char* separator = "";
  switch (value.type()) {
    case Json::value_t::object:
      out += '{';
      for (const auto& [key, member] : value.items()) {  // already sorted: bytes of UTF-8 sort as code points
        out += separator + line;
        print_string(key, out);
        out += ": ";
        print_value(member, indent + 2, out);
        separator = ",";
      }
      out += value.empty() ? "}" : line.substr(0, indent + 1) + "}";
      break;
    case Json::value_t::array:
      out += '[';
      for (const Json& element : value) {
        out += separator + line;
        print_value(element, indent + 2, out);
        separator = ",";
      }
      out += value.empty() ? "]" : line.substr(0, indent + 1) + "]";
      break;
    case Json::value_t::string:
      print_string(value.get_ref<const std::string&>(), out);
      break;
    case Json::value_t::number_float: {
      const double number = value.get<double>();
      if (std::isnan(number))
        out += "NaN";
      else if (std::isinf(number))
        out += number < 0 ? "-Infinity" : "Infinity";
      else
        out += python_repr(number);
      break;
    }
    default:
      out += value.dump();  // null, true, false, integers
  }
}

}  // namespace

std::string to_python_json(const Json& value) {
  std::string out;
  print_value(value, 0, out);
  return out + "\n";
}

}  // namespace qtool
