// Rotary position embedding: the frequencies of every variant, as transformers 5 computes them.
//
// Dimension pair i of a head turns by position * inv_freq[i]. The variants differ in how they slow the
// turning down so that a model trained on short texts stays in known territory on long ones. All of it is
// float32 arithmetic in transformers, so it is here: at position 100000 one unit in the last place of
// inv_freq is an angle of 0.006. Source: transformers modeling_rope_utils.py.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/spec.h"

namespace qtool {

struct RopeFrequencies {
  std::vector<float> inv_freq;  // [rotary_dim / 2], radians per position
  float scaling = 1.0f;         // of cos and sin: the "attention factor" of yarn and longrope
};

// Frequencies for a sequence of `length` tokens of a model made for `max_positions`. Only dynamic and
// longrope look at the length.
RopeFrequencies rope_frequencies(const RopeSpec& rope, std::int64_t max_positions, std::int64_t length);

// Whether any layer of the model rotates by that table.
bool uses_rope(const ModelSpec& spec, LayerRope rope);

// Frequencies that change while a sequence grows (dynamic beyond max_positions, longrope at its original
// length).
bool rope_depends_on_length(const RopeSpec& rope);

// Whether keys cached while the sequence had `before` tokens are of no use once it has `after`: longrope
// crossing its original length, where transformers (Phi-3) drops the cache and computes it anew. Dynamic
// frequencies also change, but there transformers keeps the keys as they were rotated, and so do we.
bool rope_invalidates_cache(const RopeSpec& rope, std::int64_t before, std::int64_t after);

// cos and sin [positions, rotary_dim / 2] of consecutive positions from `first_position` on; `cos` and `sin`
// give the number of positions by their size.
void rope_table(const RopeFrequencies& frequencies, std::int64_t first_position, std::span<float> cos,
                std::span<float> sin);

}  // namespace qtool
