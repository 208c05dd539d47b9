#include "formats/hub/sha1.h"

#include <algorithm>
#include <bit>

namespace qtool {
namespace {

constexpr std::size_t kBlock = 64;

std::uint32_t big_endian(const std::byte* bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

}  // namespace

void Sha1::compress(const std::byte* block) {
  std::array<std::uint32_t, 80> w;
  for (std::size_t i = 0; i < 16; ++i) w[i] = big_endian(block + 4 * i);
  for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  auto [a, b, c, d, e] = state_;
  for (std::size_t i = 0; i < 80; ++i) {
    const auto [f, k] = i < 20   ? std::pair{(b & c) | (~b & d), 0x5a827999u}
                        : i < 40 ? std::pair{b ^ c ^ d, 0x6ed9eba1u}
                        : i < 60 ? std::pair{(b & c) | (b & d) | (c & d), 0x8f1bbcdcu}
                                 : std::pair{b ^ c ^ d, 0xca62c1d6u};
    const std::uint32_t next = std::rotl(a, 5) + f + e + k + w[i];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  const std::array<std::uint32_t, 5> sum{a, b, c, d, e};
  for (std::size_t i = 0; i < 5; ++i) state_[i] += sum[i];
}

void Sha1::update(std::span<const std::byte> data) {
  while (!data.empty()) {
    const std::size_t held = length_ % kBlock;
    if (held == 0 && data.size() >= kBlock) {
      compress(data.data());
      length_ += kBlock;
      data = data.subspan(kBlock);
      continue;
    }
    const std::size_t taken = std::min(kBlock - held, data.size());
    std::copy_n(data.begin(), taken, pending_.begin() + static_cast<std::ptrdiff_t>(held));
    length_ += taken;
    data = data.subspan(taken);
    if (held + taken == kBlock) compress(pending_.data());
  }
}

std::string Sha1::hex_digest() {
  // A one bit, zeros, and the length in bits as 64 big-endian bits fill the last block.
  const std::uint64_t bits = length_ * 8;
  const std::size_t held = length_ % kBlock;
  std::array<std::byte, 2 * kBlock> tail{};
  tail[0] = std::byte{0x80};
  const std::size_t padding = (held < 56 ? 56 : 120) - held;
  for (std::size_t i = 0; i < 8; ++i) tail[padding + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  update(std::span(tail).first(padding + 8));

  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string hex;
  for (const std::uint32_t word : state_)
    for (int shift = 28; shift >= 0; shift -= 4) hex += kHex[word >> shift & 15];
  return hex;
}

}  // namespace qtool
