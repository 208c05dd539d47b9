// UTF-8, character by character: what is whole, what is broken and what is only unfinished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qtool {

enum class Utf8State : std::uint8_t {
  kValid,       // a whole character
  kInvalid,     // bytes that no continuation can repair
  kUnfinished,  // the text ends inside a character that is good so far
};

struct Utf8Sequence {
  Utf8State state;
  int bytes;  // kInvalid: the "maximal subpart" that one U+FFFD stands for (Unicode 3.9, W3C practice)
  char32_t code_point;  // of a valid sequence
};

// The first character of `text`, which must not be empty.
Utf8Sequence first_sequence(std::string_view text);

// The character at `text[position]`; moves `position` behind it. `text` is valid UTF-8.
char32_t next_code_point(std::string_view text, std::size_t& position);

void append_code_point(std::string& out, char32_t code_point);

bool is_valid_utf8(std::string_view text);

// `text` with every maximal invalid subpart replaced by U+FFFD, as Python's errors="replace" and Rust's
// from_utf8_lossy do.
std::string to_valid_utf8(std::string_view text);

// Bytes at the end of `text` that begin a character and may yet be completed: 0 to 3.
std::size_t unfinished_tail(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace qtool
