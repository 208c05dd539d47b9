// What Python's str says about the case and the kind of characters.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <utf8proc.h>

#include "core/text/jinja/case_table.h"
#include "core/text/jinja/strings.h"
#include "core/text/utf8.h"

namespace qtool::jinja {
namespace {

utf8proc_category_t category_of(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_cased(char32_t c) {
  const auto category = category_of(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

// What may stand between a letter and the end of its word: marks, modifiers, apostrophes.
bool is_case_ignorable(char32_t c) {
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024;
  }
}

const SpecialCase* special_case(char32_t c) {
  const auto* row =
      std::lower_bound(std::begin(kSpecialCases), std::end(kSpecialCases), c,
                       [](const SpecialCase& known, char32_t value) { return known.character < value; });
  return row != std::end(kSpecialCases) && row->character == c ? row : nullptr;
}

void append_upper(std::string& out, char32_t c) {
  if (const SpecialCase* special = special_case(c))
    out += special->upper;
  else
    append_code_point(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& out, char32_t c) {
  const SpecialCase* special = special_case(c);
  if (special && special->title)
    out += special->title;
  else
    append_code_point(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

// Is the sigma at `at` (ending at `end`) the last letter of a word?
bool is_final_sigma(std::string_view text, std::size_t at, std::size_t end) {
  while (end < text.size()) {
    const char32_t c = next_code_point(text, end);
    if (is_case_ignorable(c)) continue;
    if (is_cased(c)) return false;
    break;
  }
  while (at > 0) {
    do --at;
    while ((text[at] & 0xC0) == 0x80);
    std::size_t position = at;
    const char32_t c = next_code_point(text, position);
    if (!is_case_ignorable(c)) return is_cased(c);
  }
  return false;
}

// The character of `text` in [at, end).
void append_lower(std::string& out, char32_t c, std::string_view text, std::size_t at, std::size_t end) {
  if (c == 0x130)
    out += "i\xCC\x87";  // dotted capital I: the one letter that becomes two
  else if (c == 0x3A3)
    append_code_point(out, is_final_sigma(text, at, end) ? 0x3C2 : 0x3C3);
  else
    append_code_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

// Calls `append(out, character, begin, end)` for every character.
template <typename Append>
std::string mapped(std::string_view text, const Append& append) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    append(out, c, begin, at);
  }
  return out;
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= ' ';
  const auto category = category_of(c);
  return category != UTF8PROC_CATEGORY_CN &&
         !(category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_CO);
}

bool is_alpha(char32_t c) {
  return category_of(c) >= UTF8PROC_CATEGORY_LU && category_of(c) <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_ND; }
bool is_numeric(char32_t c) {
  return category_of(c) >= UTF8PROC_CATEGORY_ND && category_of(c) <= UTF8PROC_CATEGORY_NO;
}
bool is_upper(char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_LL; }

std::string upper(std::string_view text) {
  return mapped(text, [](std::string& out, char32_t c, std::size_t, std::size_t) { append_upper(out, c); });
}

std::string lower(std::string_view text) {
  return mapped(text, [text](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    append_lower(out, c, text, begin, end);
  });
}

std::string capitalize(std::string_view text) {
  return mapped(text, [text](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (begin == 0)
      append_title(out, c);
    else
      append_lower(out, c, text, begin, end);
  });
}

std::string title(std::string_view text) {
  bool inside = false;
  return mapped(text, [&inside, text](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (inside)
      append_lower(out, c, text, begin, end);
    else
      append_title(out, c);
    inside = is_cased(c);
  });
}

// A word begins behind blanks, hyphens and opening brackets. Its first character is put in upper case, the
// rest in lower case as a text of its own.
std::string title_words(std::string_view text) {
  std::string out;
  std::size_t begin = 0;  // of the word
  const auto end_word = [&](std::size_t end) {
    if (begin == end) return;
    std::size_t rest = begin;
    append_upper(out, next_code_point(text, rest));
    out += lower(text.substr(rest, end - rest));
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t here = at;
    const char32_t c = next_code_point(text, at);
    const bool separates = is_space(c) || (c < 0x80 && std::strchr("-({[<", static_cast<int>(c)) && c != 0);
    if (!separates) continue;
    end_word(here);
    out += text.substr(here, at - here);
    begin = at;
  }
  end_word(text.size());
  return out;
}

std::string swapcase(std::string_view text) {
  return mapped(text, [text](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (is_upper(c))
      append_lower(out, c, text, begin, end);
    else if (is_lower(c))
      append_upper(out, c);
    else
      append_code_point(out, c);
  });
}

}  // namespace qtool::jinja
