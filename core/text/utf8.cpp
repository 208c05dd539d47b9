#include "core/text/utf8.h"

#include <algorithm>

namespace qtool {

namespace {

unsigned byte_at(std::string_view text, std::size_t index) { return static_cast<unsigned char>(text[index]); }

}  // namespace

// Table 3-7 of the Unicode standard: the second byte's range depends on the first, so that overlong forms,
// surrogates and code points over U+10FFFF never begin.
Utf8Sequence first_sequence(std::string_view text) {
  const unsigned lead = byte_at(text, 0);
  if (lead < 0x80) return {Utf8State::kValid, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8State::kInvalid, 1, 0};
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t code = lead & (0xFFu >> (length + 1));
  for (int i = 1; i < length; ++i) {
    if (static_cast<std::size_t>(i) == text.size()) return {Utf8State::kUnfinished, i, 0};
    const unsigned byte = byte_at(text, static_cast<std::size_t>(i));
    if (byte < low || byte > high) return {Utf8State::kInvalid, i, 0};
    code = (code << 6) | (byte & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8State::kValid, length, code};
}

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const Utf8Sequence sequence = first_sequence(text.substr(position));
  position += static_cast<std::size_t>(sequence.bytes);
  return sequence.code_point;
}

void append_code_point(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Sequence sequence = first_sequence(text);
    if (sequence.state != Utf8State::kValid) return false;
    text.remove_prefix(static_cast<std::size_t>(sequence.bytes));
  }
  return true;
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Sequence sequence = first_sequence(text);
    const auto bytes = static_cast<std::size_t>(sequence.bytes);
    out += sequence.state == Utf8State::kValid ? text.substr(0, bytes) : kReplacementCharacter;
    text.remove_prefix(bytes);
  }
  return out;
}

std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t length = std::min<std::size_t>(3, text.size()); length > 0; --length) {
    const std::string_view tail = text.substr(text.size() - length);
    const Utf8Sequence sequence = first_sequence(tail);
    if (sequence.state == Utf8State::kUnfinished) return length;
  }
  return 0;
}

}  // namespace qtool
