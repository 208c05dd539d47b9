#include "core/model/memory.h"

#include <algorithm>

namespace qtool {

std::int64_t default_context_tokens(const ModelSpec& spec, std::int64_t needed_tokens) {
  return std::min(spec.max_positions, std::max(needed_tokens, kDefaultContextTokens));
}

Capacity capacity_of(int sequences, std::int64_t context_tokens) {
  Capacity capacity;
  capacity.sequences = sequences;
  capacity.context_tokens = context_tokens;
  capacity.chunk_tokens = std::max<std::int64_t>(sequences, std::min(context_tokens, kChunkTokens));
  capacity.logit_rows = std::max<std::int64_t>(sequences, std::min(context_tokens, kLogitRows));
  return capacity;
}

std::int64_t kv_cache_bytes(const ModelSpec& spec, int sequences, std::int64_t context_tokens, DType dtype) {
  return 2 * std::int64_t{spec.layers} * sequences * context_tokens * spec.kv_heads * spec.head_dim *
         size_of(dtype);
}

std::int64_t workspace_bytes(const ModelSpec& spec, const Capacity& capacity, std::int64_t activation_bytes) {
  const std::int64_t query = std::int64_t{spec.heads} * spec.head_dim;
  const std::int64_t key = std::int64_t{spec.kv_heads} * spec.head_dim;
  // Of a token in flight: residual stream, block input or output, q, k, v, attention result, gate, up.
  const std::int64_t per_token = 2 * spec.hidden_size + 2 * query + 2 * key + 2 * spec.intermediate_size;
  // Of a token whose logits are wanted: its last hidden state before and after the final norm, its logits.
  const std::int64_t per_logit_row = 2 * spec.hidden_size + spec.vocab_size;
  const std::int64_t rope =
      capacity.context_tokens * spec.rope.rotary_dim * std::int64_t{sizeof(float)};  // cos, sin
  const std::int64_t host_logits = capacity.logit_rows * spec.vocab_size * std::int64_t{sizeof(float)};
  return (capacity.chunk_tokens * per_token + capacity.logit_rows * per_logit_row) * activation_bytes +
         host_logits + rope;
}

}  // namespace qtool
