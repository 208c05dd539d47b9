// Filters of strings and numbers.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/text/jinja/filters.h"
#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace qtool::jinja {

std::string escaped_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

namespace {

void must_be_defined(const Value& value) {
  if (const auto* undefined = value.get_if<Undefined>()) fail(*undefined->why);
}

Value markup(Interpreter& interpreter, std::string text) {
  interpreter.charge_bytes(static_cast<std::int64_t>(text.size()));
  return Text{std::make_shared<const std::string>(std::move(text)), true};
}

bool is_markup(const Value& value) { return value.is_text() && value.get_if<Text>()->markup; }

Value as_text(const Value& value) { return value.is_text() ? value : Value(to_text(value)); }

template <std::string (*kMap)(std::string_view)>
Value mapped(Interpreter& interpreter, const Value& subject, const Bound&) {
  return interpreter.made(kMap(to_text(subject)));
}

Value trim(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::string text = to_text(subject);
  return interpreter.made(std::string(strip(text, Side::kBoth, given.optional_text(0))));
}

Value replaced(Interpreter& interpreter, const Value& subject, const Bound& given) {
  const std::string text = to_text(subject), old = to_text(given[0]), by = to_text(given[1]);
  const std::int64_t limit = given.has(2) && !given[2].is_none() ? given.integer(2, -1) : -1;
  interpreter.charge_bytes(replaced_bytes(text, old, by, limit));
  return replace(text, old, by, limit);
}

Value indent(Interpreter& interpreter, const Value& subject, const Bound& given) {
  if (!subject.text()) fail("the filter 'indent' needs a string, not " + a_type_of(subject));
  if (is_markup(subject)) unsupported("the filter 'indent' on markup is not supported");
  std::string margin;
  if (given[0].text()) {
    margin = *given[0].text();
  } else {
    const std::int64_t width = std::max<std::int64_t>(given.integer(0, 4), 0);
    interpreter.charge_bytes(width);
    margin.assign(static_cast<std::size_t>(width), ' ');
  }
  const std::vector<std::string> lines = split_lines(*subject.text() + "\n", false);
  interpreter.charge_bytes(static_cast<std::int64_t>((lines.size() + 1) * margin.size()));
  std::string out = given.truth(1, false) ? margin : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += "\n";
    if (i > 0 && (given.truth(2, false) || !lines[i].empty())) out += margin;
    out += lines[i];
  }
  return interpreter.made(std::move(out));
}

Value truncate(Interpreter& interpreter, const Value& subject, const Bound& given) {
  if (!subject.text()) fail("the filter 'truncate' needs a string, not " + a_type_of(subject));
  const std::string& text = *subject.text();
  const std::int64_t length = given.integer(0, 255);
  const std::string end = given.has(2) ? given.text(2) : "...";
  const std::int64_t leeway = given.has(3) && !given[3].is_none() ? given.integer(3, 5) : 5;
  if (length < length_of(end) || leeway < 0)
    fail("the filter 'truncate' needs a length of at least that of its end");
  if (length_of(text) - leeway <= length) return subject;
  const std::string kept = text.substr(0, byte_of(text, length - length_of(end)));
  return interpreter.made((given.truth(1, false) ? kept : rsplit(kept, " ", 1).front()) + end);
}

Value center(Interpreter& interpreter, const Value& subject, const Bound& given) {
  Arguments width;
  width.positional.emplace_back(given.integer(0, 80));
  return interpreter.call(*method_of(Value(to_text(subject)), "center"), std::move(width));
}

Value word_count(Interpreter&, const Value& subject, const Bound&) {
  const std::string text = to_text(subject);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    const bool letter = c == '_' || is_alpha(c) || is_numeric(c);
    words += letter && !inside ? 1 : 0;
    inside = letter;
  }
  return words;
}

// Python's quote(): all but letters, digits and _.-~ (and "/" in paths) as %XX.
std::string url_quoted(std::string_view text, bool in_query) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       (c != '\0' && std::string_view("_.-~").find(c) != std::string_view::npos) ||
                       (c == '/' && !in_query);
    const auto byte = static_cast<unsigned char>(c);
    if (plain)
      out += c;
    else if (c == ' ' && in_query)
      out += '+';
    else
      out += {'%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
  }
  return out;
}

Value url_encode(Interpreter& interpreter, const Value& subject, const Bound&) {
  if (!subject.list() && !subject.dict()) return interpreter.made(url_quoted(to_text(subject), false));
  std::string out;
  const auto add = [&out](const Value& key, const Value& value) {
    out += (out.empty() ? "" : "&") + url_quoted(to_text(key), true) + "=" + url_quoted(to_text(value), true);
  };
  if (const Dict* dict = subject.dict()) {
    for (const auto& [key, value] : dict->entries) add(key, value);
  } else {
    for (const Value& item : items_of(subject)) {
      const std::vector<Value> pair = items_of(item);
      if (pair.size() != 2) fail("the filter 'urlencode' needs pairs");
      add(pair[0], pair[1]);
    }
  }
  return interpreter.made(std::move(out));
}

// --- numbers

// A Python number's text without blanks around it and single underscores between its digits.
std::optional<std::string> digits_of(std::string_view text) {
  std::string out;
  text = strip(text, Side::kBoth);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0x80) != 0) unsupported("numbers in other than ASCII digits are not supported");
    const auto is_digit = [&text](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (text[i] != '_')
      out += text[i];
    else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))
      return std::nullopt;
  }
  if (!out.empty() && out[0] == '+') {
    out.erase(0, 1);
    if (!out.empty() && (out[0] == '-' || out[0] == '+')) return std::nullopt;
  }
  return out;
}

std::optional<double> parsed_float(const std::string& text) {
  const std::optional<std::string> digits = digits_of(text);
  if (!digits || digits->empty()) return std::nullopt;
  if (digits->find_first_of("()xXpP") != std::string::npos) return std::nullopt;  // nan(...), hexadecimal
  double number = 0;
  const auto [end, failure] = std::from_chars(digits->data(), digits->data() + digits->size(), number);
  if (end != digits->data() + digits->size() || failure == std::errc::invalid_argument) return std::nullopt;
  if (failure == std::errc::result_out_of_range) return std::strtod(digits->c_str(), nullptr);
  return number;
}

Value whole(double number) {
  if (!(std::abs(number) < 9.2e18)) unsupported("integers of more than 64 bits are not supported");
  return static_cast<std::int64_t>(number);
}

Value to_int(Interpreter&, const Value& subject, const Bound& given) {
  must_be_defined(subject);
  Value fallback = given.has(0) ? given[0] : Value(0);
  if (const auto integer = subject.integer()) return *integer;
  if (const auto number = subject.number()) {
    if (std::isnan(*number)) return fallback;
    if (std::isinf(*number)) fail("the filter 'int' on infinity");
    return whole(*number);
  }
  if (!subject.text()) return fallback;
  const std::int64_t base = given.integer(1, 10);
  if (base != 10 && base != 16 && base != 8 && base != 2)
    unsupported("the filter 'int' knows the bases 2, 8, 10 and 16");
  if (std::optional<std::string> digits = digits_of(*subject.text()); digits && !digits->empty()) {
    const bool minus = (*digits)[0] == '-';
    if (minus) digits->erase(0, 1);
    const char prefix = base == 16 ? 'x' : base == 8 ? 'o' : 'b';
    if (base != 10 && digits->size() > 2 && (*digits)[0] == '0' && ((*digits)[1] | 0x20) == prefix)
      digits->erase(0, 2);
    std::int64_t number = 0;
    const bool sign_again = !digits->empty() && (*digits)[0] == '-';
    const auto [end, failure] =
        std::from_chars(digits->data(), digits->data() + digits->size(), number, static_cast<int>(base));
    if (!sign_again && end == digits->data() + digits->size()) {
      if (failure == std::errc::result_out_of_range)
        unsupported("integers of more than 64 bits are not supported");
      if (failure == std::errc()) return minus ? -number : number;
    }
  }
  const std::optional<double> number = parsed_float(*subject.text());
  return number && std::isfinite(*number) ? whole(*number) : fallback;
}

Value to_float(Interpreter&, const Value& subject, const Bound& given) {
  must_be_defined(subject);
  if (const auto number = subject.number()) return *number;
  if (subject.text())
    if (const std::optional<double> number = parsed_float(*subject.text())) return *number;
  return given.has(0) ? given[0] : Value(0.0);
}

Value absolute(Interpreter&, const Value& subject, const Bound&) {
  must_be_defined(subject);
  if (const auto integer = subject.integer()) return *integer < 0 ? negative(subject) : Value(*integer);
  if (const auto number = subject.number()) return std::abs(*number);
  fail("the filter 'abs' needs a number, not " + a_type_of(subject));
}

Value rounded(Interpreter&, const Value& subject, const Bound& given) {
  must_be_defined(subject);
  const std::string method = given.has(1) ? given.text(1) : "common";
  const std::int64_t precision = given.integer(0, 0);
  if (!subject.number()) fail("the filter 'round' needs a number, not " + a_type_of(subject));
  if (precision < 0 || precision > 20) unsupported("the filter 'round' knows precisions from 0 to 20");
  if (method == "common") {
    if (subject.integer()) return *subject.integer();
    if (!std::isfinite(*subject.number())) return *subject.number();
    // Digits rounded exactly, then read back: as Python, which rounds decimals and not products.
    char buffer[400];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, *subject.number(),
                                   std::chars_format::fixed, static_cast<int>(precision));
    double number = 0;
    std::from_chars(buffer, end.ptr, number);
    return number;
  }
  if (method != "ceil" && method != "floor")
    fail("the filter 'round' knows the methods common, ceil and floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = *subject.number() * scale;
  if (!(std::abs(scaled) < 9e15)) unsupported("the filter 'round' on a number this large");
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale + 0.0;
}

Value to_json(Interpreter& interpreter, const Value& subject, const Bound& given) {
  return json_text(interpreter, subject, given.truth(0, false), given[1], given[2], given.truth(3, false));
}

Value html(Interpreter& interpreter, const Value& subject, bool even_markup) {
  if (is_markup(subject) && !even_markup) return subject;
  return markup(interpreter, escaped_html(to_text(subject)));
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable kFilters = {
      {"upper", {"", mapped<upper>}},
      {"lower", {"", mapped<lower>}},
      {"title", {"", mapped<title_words>}},
      {"capitalize", {"", mapped<capitalize>}},
      {"trim", {"chars", trim}},
      {"replace", {"old! new! count", replaced}},
      {"indent", {"width first blank", indent}},
      {"truncate", {"length killwords end leeway", truncate}},
      {"center", {"width", center}},
      {"wordcount", {"", word_count}},
      {"urlencode", {"", url_encode}},
      {"string", {"", [](Interpreter&, const Value& v, const Bound&) { return as_text(v); }}},
      {"safe", {"", [](Interpreter& i, const Value& v, const Bound&) { return markup(i, to_text(v)); }}},
      {"escape", {"", [](Interpreter& i, const Value& v, const Bound&) { return html(i, v, false); }}},
      {"forceescape", {"", [](Interpreter& i, const Value& v, const Bound&) { return html(i, v, true); }}},
      {"int", {"default base", to_int}},
      {"float", {"default", to_float}},
      {"abs", {"", absolute}},
      {"round", {"precision method", rounded}},
      {"tojson", {"ensure_ascii indent separators sort_keys", to_json}},
      {"default",
       {"default_value boolean",
        [](Interpreter&, const Value& v, const Bound& given) {
          const bool replaces = v.is_undefined() || (given.truth(1, false) && !truth_of(v));
          return !replaces ? v : given.has(0) ? given[0] : Value("");
        }}},
  };
  return kFilters;
}

}  // namespace qtool::jinja
