// What tokenizers ask about single characters and about normal forms, answered by utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qtool {

enum class CharClass : std::uint8_t {
  kWhitespace,   // the Unicode property White_Space
  kNumeric,      // general category N*
  kPunctuation,  // of ASCII, or general category P* in Unicode 8
  kMark,         // general category M* in Unicode 8
  kWord,         // what \w means in UTS #18: letters, marks, digits, connectors, joiners
};

bool is_in(CharClass which, char32_t code_point);

enum class NormalForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// Valid UTF-8 in the given normal form. Errors: kMemory.
std::string normal_form(std::string_view text, NormalForm form);

// Every character in lower case, context-free (no final sigma), as Rust's char::to_lowercase.
std::string lowercase(std::string_view text);

// Where the extended grapheme cluster that begins at `begin` ends, in valid UTF-8. `begin` is below the size.
std::size_t grapheme_end(std::string_view text, std::size_t begin);

}  // namespace qtool
