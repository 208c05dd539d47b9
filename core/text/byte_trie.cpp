#include "core/text/byte_trie.h"

#include <limits>
#include <utility>

#include "core/error.h"

namespace qtool {

ByteTrie::ByteTrie() : edges_(16, Edge{kNone, kNone, 0}), values_(1, kNone) { root_.fill(kNone); }

void ByteTrie::insert(std::string_view text, std::int32_t value) {
  if (text.empty()) return;
  std::int32_t node = kRoot;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    std::int32_t next = child(node, c);
    if (next == kNone) {
      next = new_node();
      if (node == kRoot) {
        root_[byte] = next;
      } else {
        if (2 * (used_ + 1) > edges_.size()) grow();
        edges_[slot_of(node, byte)] = {node, next, byte};
        ++used_;
      }
    }
    node = next;
  }
  std::int32_t& stored = values_[static_cast<std::size_t>(node)];
  if (stored == kNone) stored = value;
}

std::int32_t ByteTrie::new_node() {
  if (values_.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw Error(ExitCode::kMemory, "the tokenizer's tokens together have more than 2^31 bytes");
  values_.push_back(kNone);
  return static_cast<std::int32_t>(values_.size() - 1);
}

void ByteTrie::grow() {
  const std::vector<Edge> old =
      std::exchange(edges_, std::vector<Edge>(2 * edges_.size(), Edge{kNone, kNone, 0}));
  for (const Edge& edge : old)
    if (edge.parent != kNone) edges_[slot_of(edge.parent, edge.byte)] = edge;
}

}  // namespace qtool
