#include "core/error.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace qtool {

std::string_view kind_of(ExitCode code) {
  switch (code) {
    case ExitCode::kOk:
      return "ok";
    case ExitCode::kInternal:
      return "internal";
    case ExitCode::kUsage:
      return "usage";
    case ExitCode::kNotFound:
      return "not_found";
    case ExitCode::kMalformed:
      return "malformed";
    case ExitCode::kUnsupported:
      return "unsupported";
    case ExitCode::kMemory:
      return "memory";
    case ExitCode::kDevice:
      return "device";
    case ExitCode::kNetwork:
      return "network";
    case ExitCode::kVerification:
      return "verification";
    case ExitCode::kIo:
      return "io";
    case ExitCode::kInterrupted:
      return "interrupted";
  }
  return "internal";
}

namespace {

// Length of the well-formed UTF-8 sequence at the front of `text`, 0 if there is none (RFC 3629).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return tail(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && byte(1) > 0x9f) return 0;  // surrogate
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (lead == 0xf0 && byte(1) < 0x90) return 0;
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

namespace {

// Characters that show nothing and change how what is around them shows: joiners and marks of direction, line
// separators, overrides and isolates, the byte order mark, tags. Unicode 15, categories Cf, Zl and Zp, less
// those that are part of how a script is written.
struct CodePoints {
  unsigned first, last;
};
constexpr CodePoints kInvisible[] = {{0xad, 0xad},     {0x61c, 0x61c},   {0x180e, 0x180e},
                                     {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
                                     {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};

// Of a well-formed sequence of 2 to 4 bytes.
unsigned code_point_of(std::string_view sequence) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  unsigned point = byte(0) & (0xffu >> (sequence.size() + 1));
  for (std::size_t i = 1; i < sequence.size(); ++i) point = point << 6 | (byte(i) & 0x3fu);
  return point;
}

bool is_invisible(std::string_view sequence) {
  const unsigned point = code_point_of(sequence);
  return std::any_of(std::begin(kInvisible), std::end(kInvisible),
                     [&](const CodePoints& range) { return point >= range.first && point <= range.last; });
}

}  // namespace

std::string escaped(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  const auto hex = [&](unsigned char c) {
    out += "\\x";
    out += kHex[c >> 4];
    out += kHex[c & 15];
  };
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text[0]);
    std::size_t length = utf8_length(text);
    if (length == 0) {
      hex(c);
      length = 1;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c < 0x20 || c == 0x7f) {
      hex(c);
    } else if (c == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0) {  // C1 controls, U+0080..U+009F
      hex(c);
      hex(static_cast<unsigned char>(text[1]));
    } else if (length > 1 && is_invisible(text.substr(0, length))) {
      const unsigned point = code_point_of(text.substr(0, length));
      out += point > 0xffff ? "\\U000" : "\\u";
      for (int shift = point > 0xffff ? 16 : 12; shift >= 0; shift -= 4) out += kHex[point >> shift & 15];
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace qtool
