#include "core/text/unicode.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <utf8proc.h>

#include "core/error.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

utf8proc_category_t category_of(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

// The reference decides about punctuation and marks by tables of Unicode 8. These ranges hold all that became
// one or the other since, and nothing that was before.
struct Range {
  char32_t first;
  char32_t last;
};
constexpr Range kSinceUnicode8[] = {
    {0x61D, 0x61D},     {0x7FD, 0x7FD},     {0x898, 0x8D3},     {0x9FD, 0x9FE},     {0xA76, 0xA76},
    {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC3C},     {0xC77, 0xC77},     {0xC84, 0xC84},
    {0xCF3, 0xD00},     {0xD3B, 0xD3C},     {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},
    {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1CF7, 0x1CF7},
    {0x1DF6, 0x1DFA},   {0x2E43, 0x2E5D},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},   {0x10D24, 0x10F89},
    {0x11070, 0x11074}, {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111CE, 0x111CF}, {0x11241, 0x11241},
    {0x1133B, 0x1133B}, {0x1144B, 0x1145E}, {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182C, 0x11B09},
    {0x11C41, 0x11C71}, {0x11D31, 0x11FFF}, {0x12FF1, 0x13455}, {0x16E97, 0x16F4F}, {0x16F7F, 0x16F87},
    {0x16FE2, 0x16FF1}, {0x1CF00, 0x1CF46}, {0x1E08F, 0x1E4EF}, {0x1E95E, 0x1E95F}};

// ... and about normal forms by tables of Unicode 9: what has been given a decomposition, a combining class
// or a part in a composition since then stays as it is and parts what stands around it.
constexpr Range kInertUnicode9[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

template <std::size_t count>
bool is_among(const Range (&ranges)[count], char32_t c) {
  const Range* row = std::lower_bound(std::begin(ranges), std::end(ranges), c,
                                      [](const Range& range, char32_t value) { return range.last < value; });
  return row != std::end(ranges) && row->first <= c;
}

bool is_since_unicode8(char32_t c) { return is_among(kSinceUnicode8, c); }

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  if (c == 0x166D || c == 0x111C9) return true;  // until Unicode 12 and 11
  const utf8proc_category_t category = category_of(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !is_since_unicode8(c);
}

bool is_mark(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // until Unicode 12
  const utf8proc_category_t category = category_of(c);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME && c != 0x111C9 &&
         !is_since_unicode8(c);
}

bool is_numeric(char32_t c) {
  const utf8proc_category_t category = category_of(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_word(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;  // Join_Control
  if (c >= 0x24B6 && c <= 0x24E9) return true;  // circled letters: So, yet Alphabetic
  if (c >= 0x1F130 && c <= 0x1F189) {           // squared letters likewise
    return c <= 0x1F149 || (c >= 0x1F150 && c <= 0x1F169) || c >= 0x1F170;
  }
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool is_in(CharClass which, char32_t c) {
  switch (which) {
    case CharClass::kWhitespace:
      return is_whitespace(c);
    case CharClass::kNumeric:
      return is_numeric(c);
    case CharClass::kPunctuation:
      return is_punctuation(c);
    case CharClass::kMark:
      return is_mark(c);
    case CharClass::kWord:
      return is_word(c);
  }
  throw internal_error("a class of characters that is not in the table");
}

namespace {

// The normal form of today's Unicode.
std::string current_normal_form(std::string_view text, NormalForm form) {
  static constexpr std::array<int, 4> kOptions{UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                                               UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                                               UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                               UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &raw, static_cast<utf8proc_option_t>(kOptions[static_cast<std::size_t>(form)]));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  if (size == UTF8PROC_ERROR_NOMEM) throw Error(ExitCode::kMemory, "no memory to normalize the text");
  if (size < 0) throw internal_error(std::string("utf8proc: ") + utf8proc_errmsg(size));
  return std::string(reinterpret_cast<const char*>(raw), static_cast<std::size_t>(size));
}

}  // namespace

std::string normal_form(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);  // ASCII is its own normal form, of all four
  std::string out;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (!is_among(kInertUnicode9, next_code_point(text, i))) continue;
    out += current_normal_form(text.substr(done, begin - done), form);
    out += text.substr(begin, i - begin);
    done = i;
  }
  if (done == 0) return current_normal_form(text, form);
  return out += current_normal_form(text.substr(done), form);
}

// Pairs that Unicode 16 and 17 brought and utf8proc lacks, so many in a row: the small letters follow at
// `distance`.
struct CasePairs {
  char32_t first;
  char32_t last;
  int distance;
};
constexpr CasePairs kNewPairs[] = {{0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
                                   {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
                                   {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
                                   {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
                                   {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B}};

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    const auto pairs = std::find_if(std::begin(kNewPairs), std::end(kNewPairs),
                                    [c](const CasePairs& row) { return row.first <= c && c <= row.last; });
    const auto simple = static_cast<utf8proc_int32_t>(c);
    append_code_point(out, static_cast<char32_t>(pairs == std::end(kNewPairs) ? utf8proc_tolower(simple)
                                                                              : simple + pairs->distance));
    // The one character whose unconditional lower case is two: I with a dot above.
    if (c == 0x130) append_code_point(out, 0x307);
  }
  return out;
}

std::size_t grapheme_end(std::string_view text, std::size_t begin) {
  const auto is_plain = [&text](std::size_t at) {  // ASCII but CR, the only one that another follows
    return static_cast<unsigned char>(text[at]) < 0x80 && text[at] != '\r';
  };
  if (is_plain(begin) && (begin + 1 == text.size() || is_plain(begin + 1))) return begin + 1;
  std::size_t end = begin;
  auto previous = static_cast<utf8proc_int32_t>(next_code_point(text, end));
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    std::size_t next = end;
    const auto following = static_cast<utf8proc_int32_t>(next_code_point(text, next));
    if (utf8proc_grapheme_break_stateful(previous, following, &state)) break;
    previous = following;
    end = next;
  }
  return end;
}

}  // namespace qtool
