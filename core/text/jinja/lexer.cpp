#include "core/text/jinja/lexer.h"

#include <algorithm>

#include "core/error.h"
#include "core/text/jinja/strings.h"
#include "core/text/jinja/value.h"
#include "core/text/utf8.h"

namespace qtool::jinja {
namespace {

// \r\n and \r count as \n; the template's last line end is dropped.
std::string with_plain_newlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') text += source[i];
    if (source[i] == '\r' && (i + 1 == source.size() || source[i + 1] != '\n')) text += '\n';
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_digit(char c, int base = 10) {
  if (c >= '0' && c <= '9') return c - '0' < base;
  return base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
}

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(with_plain_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) root();
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(const std::string& sentence) const {
    fail("line " + std::to_string(line_) + ": " + sentence);
  }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool ahead(std::string_view what) const { return rest().substr(0, what.size()) == what; }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at_ + bytes), '\n'));
    at_ += bytes;
  }

  void skip_spaces() {
    const std::string_view left = strip(rest(), Side::kLeft);
    advance(rest().size() - left.size());
  }

  // Text up to the next tag, then the tag.
  void root() {
    std::size_t tag = text_.find('{', at_);
    while (tag != std::string::npos && (tag + 1 >= text_.size() || !is_tag(text_[tag + 1])))
      tag = text_.find('{', tag + 1);
    if (tag == std::string::npos) return data(text_.size(), 0, false);
    const char kind = text_[tag + 1];
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    const bool signed_tag = sign == '-' || sign == '+';
    data(tag, sign, kind != '{');
    const int line = line_;
    advance(signed_tag ? 3 : 2);
    if (kind == '#') return comment();
    if (kind == '{') {
      push(TokenKind::kVariableBegin, "{{");
      return inside("}}", TokenKind::kVariableEnd);
    }
    if (raw_begins()) return raw(line);
    push(TokenKind::kBlockBegin, "{%");
    inside("%}", TokenKind::kBlockEnd);
  }

  static bool is_tag(char c) { return c == '%' || c == '{' || c == '#'; }

  // Text in [at_, end) before a tag with `sign`; `strips`: a tag that lstrip_blocks concerns.
  void data(std::size_t end, char sign, bool strips) {
    std::string_view part = std::string_view(text_).substr(at_, end - at_);
    if (sign == '-') {
      part = strip(part, Side::kRight);
    } else if (strips && sign != '+') {
      const std::size_t newline = part.rfind('\n');
      const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || line_starts_) && begin < part.size() &&
          strip(part.substr(begin), Side::kLeft).empty())
        part = part.substr(0, begin);
    }
    if (!part.empty()) push(TokenKind::kData, std::string(part));
    advance(end - at_);
  }

  // Behind a tag's end: at most one of the three marks, then what trim_blocks or "-" takes away.
  bool tag_end(std::string_view close, bool plus_allowed, bool trims) {
    const std::size_t begin = at_;
    if (ahead("-") && rest().substr(1, close.size()) == close) {
      advance(1 + close.size());
      skip_spaces();
    } else if (plus_allowed && ahead("+") && rest().substr(1, close.size()) == close) {
      advance(1 + close.size());
    } else if (ahead(close)) {
      advance(close.size());
      if (trims && ahead("\n")) advance(1);
    } else {
      return false;
    }
    line_starts_ = at_ > begin && text_[at_ - 1] == '\n';
    return true;
  }

  void comment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string::npos) fail_here("the comment that begins here has no end; add '#}'");
    const bool marked = end > at_ && (text_[end - 1] == '-' || text_[end - 1] == '+');
    advance(end - at_ - (marked ? 1 : 0));
    tag_end("#}", true, true);
  }

  // Is this the tag {% raw %}? Then it is behind it.
  bool raw_begins() {
    const std::string_view word = strip(rest(), Side::kLeft);
    if (word.substr(0, 3) != "raw") return false;
    const std::string_view close = strip(word.substr(3), Side::kLeft);
    if (close.substr(0, 2) != "%}" && close.substr(0, 3) != "-%}") return false;
    advance(rest().size() - close.size());
    return tag_end("%}", false, false);
  }

  void raw(int line) {
    if (at_ >= text_.size()) return;
    for (std::size_t begin = at_; (begin = text_.find("{%", begin)) != std::string::npos; begin += 2) {
      std::string_view tag = std::string_view(text_).substr(begin + 2);
      const char sign = tag.empty() ? '\0' : tag[0];
      if (sign == '-' || sign == '+') tag.remove_prefix(1);
      tag = strip(tag, Side::kLeft);
      if (tag.substr(0, 6) != "endraw") continue;
      tag = strip(tag.substr(6), Side::kLeft);
      const std::size_t mark = tag.substr(0, 1) == "-" || tag.substr(0, 1) == "+" ? 1 : 0;
      if (tag.substr(mark, 2) != "%}") continue;
      data(begin, sign, true);
      advance(rest().size() - tag.size());
      tag_end("%}", true, true);
      return;
    }
    line_ = line;
    fail_here("{% raw %} has no {% endraw %}");
  }

  // Tokens up to the tag's end, which counts only where all brackets are closed.
  void inside(std::string_view close, TokenKind end) {
    std::string open;
    const int line = line_;
    for (;;) {
      skip_spaces();
      if (at_ >= text_.size()) {
        line_ = line;
        fail_here("the tag that begins here has no end; add '" + std::string(close) + "'");
      }
      const int end_line = line_;
      if (open.empty() && tag_end(close, end == TokenKind::kBlockEnd, end == TokenKind::kBlockEnd)) {
        tokens_.push_back({end, std::string(close), end_line});
        return;
      }
      token(open);
    }
  }

  void token(std::string& open) {
    const char c = text_[at_];
    if (is_digit(c)) return number();
    if (is_name_start(c)) return name();
    if (c == '"' || c == '\'') return string(c);
    for (const std::string_view op : {"//", "**", "==", "!=", ">=", "<="})
      if (ahead(op)) {
        push(TokenKind::kOperator, std::string(op));
        return advance(2);
      }
    if (c == '\0' || std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
      fail_here("the character '" + escaped(std::string(1, c)) + "' is not expected here");
    balance(open, c);
    push(TokenKind::kOperator, std::string(1, c));
    advance(1);
  }

  void balance(std::string& open, char c) const {
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : static_cast<char>(c + 2);
    if (c != ')' && c != ']' && c != '}') return;
    if (open.empty() || open.back() != c)
      fail_here(std::string("unexpected '") + c + "'" +
                (open.empty() ? "" : std::string("; '") + open.back() + "' is expected first"));
    open.pop_back();
  }

  void name() {
    std::size_t end = at_;
    while (end < text_.size() && (is_name_start(text_[end]) || is_digit(text_[end]))) ++end;
    push(TokenKind::kName, text_.substr(at_, end - at_));
    advance(end - at_);
  }

  // Digits with single underscores between them; the end of the longest such run at `at`, or `at`.
  std::size_t digits(std::size_t at, int base = 10) const {
    std::size_t end = at;
    while (end < text_.size() &&
           (is_digit(text_[end], base) ||
            (end > at && text_[end] == '_' && end + 1 < text_.size() && is_digit(text_[end + 1], base))))
      ++end;
    return end;
  }

  void number() {
    const std::size_t whole = digits(at_);
    std::size_t end = whole;
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
    if (!after_dot && end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1]))
      end = digits(end + 1);
    if (!after_dot && end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      const std::size_t sign =
          end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-') ? 1 : 0;
      const std::size_t exponent = digits(end + 1 + sign);
      if (exponent > end + 1 + sign) end = exponent;
    }
    TokenKind kind = end > whole ? TokenKind::kFloat : TokenKind::kInteger;
    if (kind == TokenKind::kInteger && text_[at_] == '0') end = integer_with_zero();
    std::string text = text_.substr(at_, end - at_);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    push(kind, std::move(text));
    advance(end - at_);
  }

  // 0x.., 0o.., 0b.., or zeros; "01" is two tokens, which no grammar accepts.
  std::size_t integer_with_zero() const {
    const char letter = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : '\0';
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (base > 0) {
      const std::size_t begin = at_ + 2 + (at_ + 2 < text_.size() && text_[at_ + 2] == '_' ? 1 : 0);
      if (const std::size_t end = digits(begin, base); end > begin) return end;
    }
    return digits(at_, 1);
  }

  void string(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) fail_here("the string that begins here has no end");
    std::string content = unescaped(std::string_view(text_).substr(at_ + 1, end - at_ - 1));
    push(TokenKind::kString, std::move(content));
    advance(end + 1 - at_);
  }

  // Python's escapes; one that Python does not know stays as it is written.
  std::string unescaped(std::string_view raw) const {
    std::string out;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        out += raw[i];
        continue;
      }
      const char kind = raw[++i];
      constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t known = kLetters.find(kind); known != std::string_view::npos) {
        out += kMeanings[known];
      } else if (kind == '\n') {
        continue;
      } else if (kind == 'x' || kind == 'u' || kind == 'U') {
        const std::size_t count = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
        append_escaped(out, raw.substr(i + 1, count), count, 16);
        i += count;
      } else if (is_digit(kind, 8)) {
        std::size_t count = 1;
        while (count < 3 && i + count < raw.size() && is_digit(raw[i + count], 8)) ++count;
        append_escaped(out, raw.substr(i, count), count, 8);
        i += count - 1;
      } else if (kind == 'N') {
        unsupported("line " + std::to_string(line_) + ": the escape \\N{...} in a string is not supported");
      } else {
        out += {'\\', kind};
      }
    }
    return out;
  }

  void append_escaped(std::string& out, std::string_view digits, std::size_t count, int base) const {
    char32_t code = 0;
    bool good = digits.size() == count;
    for (const char c : digits) {
      good = good && is_digit(c, base);
      code = code * static_cast<char32_t>(base) +
             static_cast<char32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (!good || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      fail_here("a string has the escape '\\" + escaped(digits) + "', which names no character");
    append_code_point(out, code);
  }

  std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // did what was read last end with a line end?
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) fail("the template is larger than 1 MiB");
  if (!is_valid_utf8(source)) fail("the template is not valid UTF-8");
  return Lexer(source).run();
}

std::string described(const Token& token) {
  if (token.kind == TokenKind::kEnd) return "the end of the template";
  if (token.kind == TokenKind::kData) return "text";
  return "'" + escaped(token.text.substr(0, 60)) + "'";
}

}  // namespace qtool::jinja
