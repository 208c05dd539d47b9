#include "core/sha_blocks.h"

#include <algorithm>

namespace qtool {
namespace {

constexpr std::size_t kBlock = 64;

}  // namespace

template <std::size_t kWords>
void ShaBlocks<kWords>::update(std::span<const std::byte> data) {
  const std::size_t held = length_ % kBlock;
  length_ += data.size();
  if (held > 0) {
    const std::size_t taken = std::min(kBlock - held, data.size());
    std::copy_n(data.begin(), taken, pending_.begin() + static_cast<std::ptrdiff_t>(held));
    data = data.subspan(taken);
    if (held + taken < kBlock) return;
    compress_(state_, pending_.data());
  }
  for (; data.size() >= kBlock; data = data.subspan(kBlock)) compress_(state_, data.data());
  std::copy(data.begin(), data.end(), pending_.begin());
}

template <std::size_t kWords>
std::string ShaBlocks<kWords>::hex_digest() {
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

template class ShaBlocks<5>;
template class ShaBlocks<8>;

}  // namespace qtool
