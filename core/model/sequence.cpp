#include "core/model/sequence.h"

#include <algorithm>

#include "core/model/rope.h"

namespace qtool {

void Sequence::extend(std::span<const std::int32_t> ids) {
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  if (rope_invalidates_cache(transformer_.spec().rope, computed_, length())) computed_ = 0;
}

Segment Sequence::next(std::int64_t most) const { return {slot_, computed_, std::min(most, pending())}; }

std::span<const std::int32_t> Sequence::ids_of(const Segment& segment) const {
  return std::span(tokens_).subspan(static_cast<std::size_t>(segment.position),
                                    static_cast<std::size_t>(segment.tokens));
}

std::span<const float> Sequence::append(std::span<const std::int32_t> ids, const LogitSink& each) {
  const std::int64_t first_new = length();
  extend(ids);
  const Capacity& capacity = transformer_.capacity();
  const auto vocab = static_cast<std::size_t>(transformer_.spec().vocab_size);
  std::span<const float> last;
  std::vector<std::int64_t> rows;
  while (pending() > 0) {
    const Segment segment = next(capacity.chunk_tokens);
    transformer_.forward({&segment, 1}, ids_of(segment), length());
    mark_computed(segment);
    // Rows whose logits are wanted: all new ones for `each`, else only the very last.
    std::int64_t row = each ? std::max<std::int64_t>(0, first_new - segment.position) : segment.tokens - 1;
    while (row < segment.tokens && (each || pending() == 0)) {
      rows.clear();
      while (row < segment.tokens && static_cast<std::int64_t>(rows.size()) < capacity.logit_rows)
        rows.push_back(row++);
      const std::span<const float> logits = transformer_.logits(rows);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        last = logits.subspan(i * vocab, vocab);
        if (each) each(segment.position + rows[i], last);
      }
    }
  }
  return last;
}

}  // namespace qtool
