// How many bytes a model needs besides its weights: one set of formulas for what `footprint` predicts and
// what Transformer allocates.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/model/spec.h"

namespace qtool {

// How much a Transformer shall be able to hold. Everything is allocated for it once, up front.
struct Capacity {
  int sequences = 1;                // that the cache holds at the same time
  std::int64_t context_tokens = 0;  // positions of each
  std::int64_t chunk_tokens = 0;    // tokens of one pass through the layers; longer prompts take several
  std::int64_t logit_rows = 0;      // tokens whose logits are computed at once
};

inline constexpr std::int64_t kDefaultContextTokens = 4096;
inline constexpr std::int64_t kMaxContextTokens = std::int64_t{1} << 30;  // keeps the products below in range
inline constexpr std::int64_t kChunkTokens = 512;  // beyond it a product on packed weights gains nothing
inline constexpr std::int64_t kLogitRows = 16;     // a full vocabulary is wide: 16 rows of 128 k are 8 MB

// The context of a run for which none was asked: what it needs (`needed_tokens`, 0 if unknown), at least
// kDefaultContextTokens, at most what the model was made for.
std::int64_t default_context_tokens(const ModelSpec& spec, std::int64_t needed_tokens);

// The capacity that `generate` uses and `footprint` predicts.
Capacity capacity_of(int sequences, std::int64_t context_tokens);

// The element type of the cache when none is asked for: float32 keeps what a float32 product computed, a
// 16-bit compute type rounds keys and values to itself anyway.
constexpr DType default_kv_dtype(DType compute_dtype) { return compute_dtype; }

// Keys and values [layers, sequences, context, kv_heads, head_dim] of element type `dtype`.
std::int64_t kv_cache_bytes(const ModelSpec& spec, int sequences, std::int64_t context_tokens, DType dtype);

// Activations (elements of `activation_bytes`: 4 on the CPU), logits with their copy for the host, and the
// rotary tables and ALiBi slopes (float32).
std::int64_t workspace_bytes(const ModelSpec& spec, const Capacity& capacity,
                             std::int64_t activation_bytes = 4);

}  // namespace qtool
