// Base64 (RFC 4648, the plain alphabet): how text files carry bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qtool {

// The bytes that `text` stands for. nullopt: a character outside the alphabet, or padding that is missing or
// misplaced.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace qtool
