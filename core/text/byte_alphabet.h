// GPT-2's byte-level alphabet: every byte written as one printable character, so that vocabularies are text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qtool {

// The bytes that are printable in Latin-1 (! to ~, U+00A1 to U+00AC, U+00AE to U+00FF) stand for themselves;
// the other 68, in rising order, are U+0100 to U+0143. So a space is U+0120.
void append_bytes_as_chars(std::string_view bytes, std::string& out);

// The bytes that `text` spells, or nothing when it has a character outside the alphabet.
std::optional<std::string> bytes_from_chars(std::string_view text);

}  // namespace qtool
