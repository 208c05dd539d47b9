// One sequence in the transformer's cache: what of it is computed, and what the next step has to compute.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/model/transformer.h"

namespace qtool {

class Sequence {
 public:
  // Logits of one token, by its index in the sequence.
  using LogitSink = std::function<void(std::int64_t index, std::span<const float> logits)>;

  explicit Sequence(Transformer& transformer, int slot = 0) : transformer_(transformer), slot_(slot) {}

  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  std::int64_t length() const { return static_cast<std::int64_t>(tokens_.size()); }

  // --- in steps that others share: add tokens, then compute them piece by piece
  // Where longrope changes its frequencies (see rope_invalidates_cache) the whole sequence waits to be
  // computed anew.
  void extend(std::span<const std::int32_t> ids);
  std::int64_t pending() const { return length() - computed_; }  // tokens that the cache lacks
  // The next of them, at most `most`; and their ids.
  Segment next(std::int64_t most) const;
  std::span<const std::int32_t> ids_of(const Segment& segment) const;
  void mark_computed(const Segment& segment) { computed_ = segment.position + segment.tokens; }

  // --- alone: appends tokens in steps of the transformer's chunk size and returns the logits [vocab] after
  // the last of them; valid until the next call. `each`, if given, sees the logits after every one of them,
  // in order.
  std::span<const float> append(std::span<const std::int32_t> ids, const LogitSink& each = {});

 private:
  Transformer& transformer_;
  int slot_ = 0;
  std::vector<std::int32_t> tokens_;
  std::int64_t computed_ = 0;  // positions that the cache holds
};

}  // namespace qtool
