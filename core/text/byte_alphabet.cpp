#include "core/text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "core/text/utf8.h"

namespace qtool {

namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::uint16_t, 256> char_of{};  // code point of a byte
  std::array<std::int16_t, 324> byte_of{};   // byte of a code point, -1 for none
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte_of) byte = -1;
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned code = stands_for_itself(byte) ? byte : next++;
    alphabet.char_of[byte] = static_cast<std::uint16_t>(code);
    alphabet.byte_of[code] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

void append_bytes_as_chars(std::string_view bytes, std::string& out) {
  for (const char c : bytes) append_code_point(out, kAlphabet.char_of[static_cast<unsigned char>(c)]);
}

std::optional<std::string> bytes_from_chars(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const char32_t code = next_code_point(text, i);
    if (code >= kAlphabet.byte_of.size() || kAlphabet.byte_of[code] < 0) return std::nullopt;
    bytes += static_cast<char>(static_cast<unsigned char>(kAlphabet.byte_of[code]));
  }
  return bytes;
}

}  // namespace qtool
