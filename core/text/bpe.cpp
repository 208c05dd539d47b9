#include "core/text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

std::uint64_t pair_of(TokenId left, TokenId right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}

}  // namespace

Bpe::MergeTable::MergeTable(std::size_t count)
    : rows_(std::bit_ceil(2 * count + 1), Row{kNoPair, {0, 0}}),
      probes_left_(kMaxProbesPerEntry * rows_.size()) {}

std::size_t Bpe::MergeTable::home_of(std::uint64_t pair) const {
  return ((pair * 0x9E3779B97F4A7C15u) >> 32) & (rows_.size() - 1);
}

std::size_t Bpe::MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = rows_.size() - 1;
  std::size_t slot = home_of(pair);
  while (rows_[slot].pair != pair && rows_[slot].pair != kNoPair) slot = (slot + 1) & mask;
  return slot;
}

void Bpe::MergeTable::set(TokenId left, TokenId right, Joined joined) {
  const std::uint64_t pair = pair_of(left, right);
  const std::size_t slot = slot_of(pair);
  const std::size_t probes = (slot - home_of(pair)) & (rows_.size() - 1);
  if (probes > probes_left_)
    throw Error(ExitCode::kMalformed, "the ids of the merges' tokens are chosen to be slow to look up");
  probes_left_ -= probes;
  rows_[slot] = {pair, joined};
}

const Bpe::Joined* Bpe::MergeTable::find(TokenId left, TokenId right) const {
  const Row& row = rows_[slot_of(pair_of(left, right))];
  return row.pair == kNoPair ? nullptr : &row.joined;
}

std::vector<MergeRule> merge_rules(const Vocabulary& vocabulary, const std::vector<Merge>& merges,
                                   std::string_view prefix) {
  std::vector<MergeRule> rules;
  rules.reserve(merges.size());
  const auto id_of = [&](const std::string& token) {
    if (const std::optional<TokenId> id = vocabulary.find(token)) return *id;
    throw Error(ExitCode::kMalformed, "merge " + std::to_string(rules.size()) + " names \"" + escaped(token) +
                                          "\", which is not in the vocabulary");
  };
  std::string joined;
  for (const auto& [left, right] : merges) {
    joined.assign(left).append(right, std::min(prefix.size(), right.size()), std::string::npos);
    rules.push_back({id_of(left), id_of(right), id_of(joined)});
  }
  return rules;
}

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<MergeRule>& rules,
         BpeOptions options)
    : vocabulary_(std::move(vocabulary)),
      options_(std::move(options)),
      byte_ids_(byte_tokens(*vocabulary_)),
      merges_(rules.size()) {
  if (options_.unk_token) {
    unk_id_ = vocabulary_->find(*options_.unk_token);
    if (!unk_id_)
      throw Error(ExitCode::kMalformed,
                  "unk_token names \"" + escaped(*options_.unk_token) + "\", which is not in the vocabulary");
  }
  for (std::size_t rank = 0; rank < rules.size(); ++rank)
    merges_.set(rules[rank].left, rules[rank].right, {static_cast<std::int32_t>(rank), rules[rank].joined});
}

void Bpe::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  if (options_.ignore_merges) {
    if (const std::optional<TokenId> id = vocabulary_->find(piece)) {
      out.push_back(*id);
      return;
    }
  }
  std::vector<TokenId> symbols;
  characters_of(piece, symbols);
  merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void Bpe::characters_of(std::string_view piece, std::vector<TokenId>& out) const {
  out.reserve(piece.size());
  bool pending_unk = false;
  const auto flush_unk = [&] {
    if (pending_unk) out.push_back(*unk_id_);
    pending_unk = false;
  };
  std::string spelling;
  for (std::size_t i = 0; i < piece.size();) {
    const std::size_t begin = i;
    next_code_point(piece, i);
    std::string_view character = piece.substr(begin, i - begin);
    const bool prefixed = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffixed = i == piece.size() && !options_.end_of_word_suffix.empty();
    if (prefixed || suffixed) {
      spelling = prefixed ? options_.continuing_subword_prefix : std::string();
      spelling += character;
      if (suffixed) spelling += options_.end_of_word_suffix;
      character = spelling;
    }
    if (const std::optional<TokenId> id = vocabulary_->find(character)) {
      flush_unk();
      out.push_back(*id);
      continue;
    }
    const auto byte_id = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c).has_value(); })) {
      // A pending unk stays pending here and so comes out behind the bytes: the reference does the same.
      for (const char c : character) out.push_back(*byte_id(c));
      continue;
    }
    if (!unk_id_) continue;
    if (!options_.fuse_unk) flush_unk();
    pending_unk = true;
  }
  flush_unk();
}

// Best pair first, by a heap of candidates: O(n log n) for a piece of n characters. The symbols form a linked
// list over their array; a candidate whose left symbol has changed since is recognised by its rank, which
// names one pair.
void Bpe::merge(std::vector<TokenId>& symbols) const {
  if (symbols.size() < 2) return;
  constexpr std::int32_t kNone = -1;
  struct Link {
    std::int32_t previous;
    std::int32_t next;
  };
  if (symbols.size() > static_cast<std::size_t>(INT32_MAX))
    throw Error(ExitCode::kMemory, "a piece of text of more than 2 GB cannot be tokenized");
  const auto count = static_cast<std::int32_t>(symbols.size());
  std::vector<Link> links(symbols.size());
  for (std::int32_t i = 0; i < count; ++i)
    links[static_cast<std::size_t>(i)] = {i - 1, i + 1 < count ? i + 1 : kNone};

  // Rank in the high half, position in the low half: the smallest is the leftmost of the best.
  std::vector<std::uint64_t> heap;
  heap.reserve(symbols.size());
  const auto symbol = [&symbols](std::int32_t at) -> TokenId& {
    return symbols[static_cast<std::size_t>(at)];
  };
  const auto link = [&links](std::int32_t at) -> Link& { return links[static_cast<std::size_t>(at)]; };
  const auto candidate = [&](std::int32_t left) -> std::optional<std::uint64_t> {
    const std::int32_t right = link(left).next;
    const Joined* joined = right == kNone ? nullptr : merges_.find(symbol(left), symbol(right));
    if (!joined) return std::nullopt;
    return (std::uint64_t{static_cast<std::uint32_t>(joined->rank)} << 32) | static_cast<std::uint32_t>(left);
  };
  const auto push = [&](std::int32_t left) {
    if (const std::optional<std::uint64_t> entry = candidate(left)) {
      heap.push_back(*entry);
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  for (std::int32_t i = 0; i + 1 < count; ++i)
    if (const std::optional<std::uint64_t> entry = candidate(i)) heap.push_back(*entry);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());

  constexpr TokenId kRemoved = -1;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const std::uint64_t best = heap.back();
    heap.pop_back();
    const auto left = static_cast<std::int32_t>(best & 0xFFFFFFFFu);
    if (symbol(left) == kRemoved) continue;
    const std::int32_t right = link(left).next;
    if (right == kNone) continue;
    const Joined* joined = merges_.find(symbol(left), symbol(right));
    if (!joined || static_cast<std::uint32_t>(joined->rank) != best >> 32) continue;
    symbol(left) = joined->id;
    symbol(right) = kRemoved;
    const std::int32_t after = link(right).next;
    link(left).next = after;
    if (after != kNone) link(after).previous = left;
    if (link(left).previous != kNone) push(link(left).previous);
    push(left);
  }
  std::erase(symbols, kRemoved);
}

}  // namespace qtool
