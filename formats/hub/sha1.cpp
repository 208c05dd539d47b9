#include "formats/hub/sha1.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace qtool {
namespace {

void compress(std::array<std::uint32_t, 5>& state, const std::byte* block) {
  std::array<std::uint32_t, 80> w;
  std::ranges::copy(sha_words(block), w.begin());
  for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  auto [a, b, c, d, e] = state;
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
  for (std::size_t i = 0; i < 5; ++i) state[i] += sum[i];
}

}  // namespace

Sha1::Sha1() : ShaBlocks({0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, compress) {}

}  // namespace qtool
