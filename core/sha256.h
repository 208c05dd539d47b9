// SHA-256 (FIPS 180-4), for fingerprints of tensors and files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qtool {

class Sha256 {
 public:
  void update(std::span<const std::byte> data);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }

  // 64 hexadecimal digits of all that was given; nothing may be added afterwards.
  std::string hex_digest();

 private:
  void compress(const std::byte* block);  // 64 bytes

  // The first 32 fractional bits of the square roots of the first 8 primes.
  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};  // the first `length_ % 64` bytes of a block to come
  std::uint64_t length_ = 0;             // bytes so far
};

}  // namespace qtool
