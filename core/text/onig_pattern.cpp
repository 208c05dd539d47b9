#include "core/text/onig_pattern.h"

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {

namespace {

// UTS #18. Outside of brackets Oniguruma counts six signs of Latin-1 (superscripts and fractions) besides.
constexpr std::string_view kWordItems = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kWordItemsOutside =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

std::string bracketed(std::string_view items, bool negated) {
  std::string set = negated ? "[^" : "[";
  set += items;
  set += ']';
  return set;
}

// A set of characters on its way to PCRE2: plain items go into one bracket, everything else is alternatives.
struct CharacterSet {
  std::string items;                      // what may stand inside [...]
  std::vector<std::string> alternatives;  // expressions that match one character each

  std::string expression(bool negated) const {
    if (alternatives.empty()) {
      if (items.empty()) return negated ? "(?s:.)" : "(?!)";
      return bracketed(items, negated);
    }
    std::string any = items.empty() ? std::string() : bracketed(items, false);
    for (const std::string& alternative : alternatives) any += (any.empty() ? "" : "|") + alternative;
    return negated ? "(?:(?!" + any + ")(?s:.))" : "(?:" + any + ")";
  }
};

class Translator {
 public:
  Translator(std::string_view pattern, bool (*is_script)(std::string_view))
      : in_(pattern), is_script_(is_script) {}

  std::string run() {
    while (!at_end()) step();
    if (!open_groups_.empty()) throw malformed("a group is not closed");
    return std::move(out_);
  }

 private:
  bool at_end() const { return position_ >= in_.size(); }
  char peek(std::size_t ahead = 0) const {
    return position_ + ahead < in_.size() ? in_[position_ + ahead] : '\0';
  }
  bool looking_at(std::string_view text) const { return in_.substr(position_).starts_with(text); }
  std::string_view take(std::size_t count) {
    const std::string_view taken = in_.substr(position_, count);
    position_ += taken.size();
    return taken;
  }

  Error malformed(const std::string& why) const {
    return Error(ExitCode::kMalformed,
                 "the pattern \"" + escaped(in_) + "\" is no regular expression: " + why);
  }
  Error unsupported(const std::string& construct) const {
    return Error(ExitCode::kUnsupported, "the pattern \"" + escaped(in_) + "\" uses " + escaped(construct) +
                                             ", which qtool cannot translate from Oniguruma to PCRE2");
  }

  // One atom, quantifier, group bracket or bar. `atom_` is where the last atom begins in `out_`: a quantifier
  // after it may have to be wrapped together with it.
  void step() {
    const char c = peek();
    if (c == '\\') {
      const std::size_t start = out_.size();
      escape_outside();
      atom_ = start;
    } else if (c == '[') {
      const std::size_t start = out_.size();
      ++position_;
      out_ += character_class(0);
      atom_ = start;
    } else if (c == '(') {
      open_group();
    } else if (c == ')') {
      if (open_groups_.empty()) throw malformed("a group is closed that was not opened");
      atom_ = open_groups_.back();
      open_groups_.pop_back();
      out_ += take(1);
    } else if (c == '{' && quantifier_length() > 0) {
      quantifier();
    } else if (c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$' || c == '.') {
      if (c == '.') atom_ = out_.size();
      out_ += take(1);
    } else {
      atom_ = out_.size();
      if (c == '{') out_ += '\\';
      out_ += take(1);
      while (!at_end() && (static_cast<unsigned char>(peek()) & 0xC0u) == 0x80u) out_ += take(1);
    }
  }

  // {n} {n,} {,m} {n,m}: the number of characters, 0 when the brace is a literal.
  std::size_t quantifier_length() const {
    std::size_t i = 1;
    bool digits = false;
    while (is_digit(peek(i))) digits = true, ++i;
    if (peek(i) == ',') {
      ++i;
      while (is_digit(peek(i))) digits = true, ++i;
    }
    return digits && peek(i) == '}' ? i + 1 : 0;
  }

  void quantifier() {
    std::string text(take(quantifier_length()));
    if (text[1] == ',') text.insert(1, "0");
    if (peek() != '+') {
      out_ += text;
      return;
    }
    ++position_;
    out_.insert(atom_, "(?:");
    out_ += text + ")+";
  }

  void open_group() {
    open_groups_.push_back(out_.size());
    if (peek(1) != '?') {
      out_ += take(1);
      return;
    }
    for (const std::string_view plain : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"})
      if (looking_at(plain)) {
        out_ += take(plain.size());
        return;
      }
    if (looking_at("(?<") || looking_at("(?#")) throw unsupported(std::string(in_.substr(position_, 3)));
    take(2);
    out_ += "(?";
    while (!at_end() && peek() != ':' && peek() != ')') {
      const char option = take(1)[0];
      if (option == 'm')
        out_ += 's';
      else if (option == 'i' || option == 'x' || option == '-')
        out_ += option;
      else
        throw unsupported(std::string("the group option ") + option);
    }
    if (at_end()) throw malformed("a group is not closed");
    if (peek() == ')') open_groups_.pop_back();
    out_ += take(1);
  }

  void escape_outside() {
    switch (peek(1)) {
      case 'w':
        out_ += bracketed(kWordItemsOutside, false);
        break;
      case 'W':
        out_ += bracketed(kWordItemsOutside, true);
        break;
      case 'b':
        out_ += boundary(true);
        break;
      case 'B':
        out_ += boundary(false);
        break;
      case 'h':
        out_ += "[0-9A-Fa-f]";
        break;
      case 'H':
        out_ += "[^0-9A-Fa-f]";
        break;
      case 'A':
      case 'z':
      case 'Z':
      case 'R':
        out_ += take(2);
        return;
      case '1':
      case '2':
      case '3':
      case '4':
      case '5':
      case '6':
      case '7':
      case '8':
      case '9':
        out_ += take(2);
        return;
      default:
        out_ += shared_escape();
        return;
    }
    take(2);
  }

  static std::string boundary(bool wanted) {
    const std::string word = bracketed(kWordItemsOutside, false);
    const std::string after = "(?<=" + word + ")", before = "(?=" + word + ")";
    const std::string not_after = "(?<!" + word + ")", not_before = "(?!" + word + ")";
    return wanted ? "(?:" + after + not_before + "|" + not_after + before + ")"
                  : "(?:" + after + before + "|" + not_after + not_before + ")";
  }

  // An escape that means the same inside and outside a class.
  std::string shared_escape() {
    const char c = peek(1);
    switch (c) {
      case 's':
        take(2);
        return "\\p{White_Space}";
      case 'S':
        take(2);
        return "\\P{White_Space}";
      case 'v':
        take(2);
        return "\\x0b";
      case 'd':
      case 'D':
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        return std::string(take(2));
      case 'p':
      case 'P':
        return property();
      case 'x': {
        if (peek(2) == '{') {
          const std::size_t close = in_.find('}', position_);
          if (close == std::string_view::npos) throw malformed("\\x{ is not closed");
          return std::string(take(close + 1 - position_));
        }
        std::size_t digits = 0;
        while (digits < 2 && is_hex(peek(2 + digits))) ++digits;
        return std::string(take(2 + digits));
      }
      case 'u': {
        for (std::size_t i = 2; i < 6; ++i)
          if (!is_hex(peek(i))) throw malformed("\\u needs four hexadecimal digits");
        return "\\x{" + std::string(take(6).substr(2)) + "}";
      }
      case '\0':
        throw malformed("it ends in a backslash");
      default:
        break;
    }
    if (is_alnum(c)) throw unsupported(std::string("\\") + c);
    std::string text(take(2));  // an escaped sign, or the first byte of an escaped character
    while (!at_end() && (static_cast<unsigned char>(peek()) & 0xC0u) == 0x80u) text += take(1);
    return text;
  }

  std::string property() {
    const std::size_t close = in_.find('}', position_);
    if (peek(2) != '{' || close == std::string_view::npos) throw unsupported("a property without {braces}");
    const std::string_view text = take(close + 1 - position_);
    bool negated = text[1] == 'P';
    std::string_view name = text.substr(3, text.size() - 4);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string out = negated ? "\\P{" : "\\p{";
    if (is_script_(name)) out += "sc:";
    out += name;
    out += '}';
    return out;
  }

  // A class whose '[' has been read: an expression that matches one character. `depth` counts the brackets
  // around.
  std::string character_class(int depth) {
    bool negated = false;
    CharacterSet set = set_until_bracket(depth, negated);
    return set.expression(negated);
  }

  CharacterSet set_until_bracket(int depth, bool& negated) {
    if (depth >= kMaxPatternDepth) throw unsupported("brackets nested more than 32 deep");
    negated = peek() == '^';
    if (negated) ++position_;
    CharacterSet set;
    std::string intersection;  // lookaheads for the operands left of each &&
    if (peek() == ']') {       // first in a class it stands for itself
      set.items += "\\]";
      ++position_;
    }
    while (true) {
      if (at_end()) throw malformed("a class [ is not closed");
      const char c = peek();
      if (c == ']') {
        ++position_;
        break;
      }
      if (looking_at("&&")) {
        take(2);
        intersection += "(?=" + set.expression(false) + ")";
        set = {};
      } else if (looking_at("[:")) {
        set.items += posix_class();
      } else if (c == '[') {
        ++position_;
        bool inner_negated = false;
        const CharacterSet inner = set_until_bracket(depth + 1, inner_negated);
        if (inner_negated || !inner.alternatives.empty())
          set.alternatives.push_back(inner.expression(inner_negated));
        else
          set.items += inner.items;
      } else if (c == '\\') {
        escape_inside(set);
      } else {
        set.items += take(1);
      }
    }
    if (intersection.empty()) return set;
    CharacterSet result;
    result.alternatives.push_back("(?:" + intersection + set.expression(false) + ")");
    return result;
  }

  // [:alpha:] and the like mean Unicode properties, other ones than PCRE2 takes.
  std::string posix_class() {
    static constexpr std::pair<std::string_view, std::string_view> kClasses[] = {
        {"alpha", "\\p{Alphabetic}"}, {"alnum", "\\p{Alphabetic}\\p{Nd}"},
        {"digit", "\\p{Nd}"},         {"upper", "\\p{Uppercase}"},
        {"lower", "\\p{Lowercase}"},  {"space", "\\p{White_Space}"},
        {"xdigit", "0-9A-Fa-f"},      {"word", kWordItems},
        {"cntrl", "\\p{Cc}"},
    };
    const std::size_t close = in_.find(":]", position_ + 2);
    if (close == std::string_view::npos) throw malformed("a class [: is not closed");
    const std::string_view text = take(close + 2 - position_);
    const std::string_view name = text.substr(2, text.size() - 4);
    for (const auto& [row, items] : kClasses)
      if (row == name) return std::string(items);
    throw unsupported("the class " + std::string(text));
  }

  void escape_inside(CharacterSet& set) {
    switch (peek(1)) {
      case 'w':
        set.items += kWordItems;
        break;
      case 'W':
        set.alternatives.push_back(bracketed(kWordItems, true));
        break;
      case 'h':
        set.items += "0-9A-Fa-f";
        break;
      case 'H':
        set.alternatives.emplace_back("[^0-9A-Fa-f]");
        break;
      case 'b':
        set.items += "\\x08";
        break;
      default:
        set.items += shared_escape();
        return;
    }
    take(2);
  }

  std::string_view in_;
  bool (*is_script_)(std::string_view);
  std::size_t position_ = 0;
  std::string out_;
  std::size_t atom_ = 0;
  std::vector<std::size_t> open_groups_;  // where each begins in `out_`
};

}  // namespace

std::string pcre_from_oniguruma(std::string_view pattern, bool (*is_script)(std::string_view name)) {
  return Translator(pattern, is_script).run();
}

}  // namespace qtool
