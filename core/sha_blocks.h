// What SHA-1 and SHA-256 (FIPS 180-4) share: bytes come in any pieces and leave in blocks of 64, the last of
// them filled up with their number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qtool {

// kWords: 32-bit words of the digest.
template <std::size_t kWords>
class ShaBlocks {
 public:
  void update(std::span<const std::byte> data);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }

  // 8 * kWords hexadecimal digits of all that was given; nothing may be added afterwards.
  std::string hex_digest();

 protected:
  using State = std::array<std::uint32_t, kWords>;
  using Compress = void (*)(State& state, const std::byte* block);  // 64 bytes
  ShaBlocks(const State& state, Compress compress) : compress_(compress), state_(state) {}

 private:
  Compress compress_;
  State state_;
  std::array<std::byte, 64> pending_{};  // the first `length_ % 64` bytes of a block to come
  std::uint64_t length_ = 0;             // bytes so far
};

extern template class ShaBlocks<5>;
extern template class ShaBlocks<8>;

// The 16 words of a block, which are big-endian.
inline std::array<std::uint32_t, 16> sha_words(const std::byte* block) {
  std::array<std::uint32_t, 16> words;
  for (std::size_t i = 0; i < 16; ++i) {
    const auto byte = [&](std::size_t j) { return std::to_integer<std::uint32_t>(block[i * 4 + j]); };
    words[i] = byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
  }
  return words;
}

}  // namespace qtool
