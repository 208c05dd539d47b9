// A set of byte strings, each with a number, that is walked byte by byte: which of them begin here?
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace qtool {

class ByteTrie {
 public:
  static constexpr std::int32_t kRoot = 0;
  static constexpr std::int32_t kNone = -1;

  ByteTrie();

  // `value` is not negative. Of two equal texts the first one's value stays; the empty text is no member.
  void insert(std::string_view text, std::int32_t value);

  // The node one `byte` below `node`, or kNone.
  std::int32_t child(std::int32_t node, char byte) const {
    const auto index = static_cast<unsigned char>(byte);
    return node == kRoot ? root_[index] : edges_[slot_of(node, index)].child;
  }
  // The value of the text that ends at `node`, or kNone.
  std::int32_t value(std::int32_t node) const { return values_[static_cast<std::size_t>(node)]; }

 private:
  // All edges below the root are rows of one hash table with open addressing, at most half full: a vocabulary
  // of long tokens stays small, and a step costs one look-up. The root, asked at every position of a text,
  // has an array.
  struct Edge {
    std::int32_t parent;  // kNone: the row is free
    std::int32_t child;   // kNone in a free row
    std::uint32_t byte;
  };
  std::size_t slot_of(std::int32_t node, std::uint32_t byte) const {
    const std::size_t mask = edges_.size() - 1;
    const std::uint64_t key = (std::uint64_t{static_cast<std::uint32_t>(node)} << 8) | byte;
    std::size_t slot = ((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (edges_[slot].parent != kNone && (edges_[slot].parent != node || edges_[slot].byte != byte))
      slot = (slot + 1) & mask;
    return slot;
  }
  std::int32_t new_node();
  void grow();

  std::array<std::int32_t, 256> root_;
  std::vector<Edge> edges_;
  std::size_t used_ = 0;              // rows of `edges_`
  std::vector<std::int32_t> values_;  // by node
};

}  // namespace qtool
