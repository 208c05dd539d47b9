// SHA-1 (FIPS 180-4): what git names files by. Against accidents, not against forgers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qtool {

class Sha1 {
 public:
  void update(std::span<const std::byte> data);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }

  // 40 hexadecimal digits of all that was given; nothing may be added afterwards.
  std::string hex_digest();

 private:
  void compress(const std::byte* block);  // 64 bytes

  std::array<std::uint32_t, 5> state_{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::array<std::byte, 64> pending_{};  // the first `length_ % 64` bytes of a block to come
  std::uint64_t length_ = 0;             // bytes so far
};

}  // namespace qtool
