#include "core/model/memory.h"

#include <algorithm>

#include "core/model/rope.h"
#include "core/model/workspace.h"

namespace qtool {

std::int64_t default_context_tokens(const ModelSpec& spec, std::int64_t needed_tokens) {
  return std::min(spec.max_positions, std::max(needed_tokens, kDefaultContextTokens));
}

Capacity capacity_of(int sequences, std::int64_t context_tokens) {
  Capacity capacity;
  capacity.sequences = sequences;
  capacity.context_tokens = context_tokens;
  capacity.chunk_tokens =
      std::max<std::int64_t>(sequences, std::min(sequences * context_tokens, kChunkTokens));
  capacity.logit_rows = std::max<std::int64_t>(sequences, std::min(context_tokens, kLogitRows));
  return capacity;
}

std::int64_t kv_cache_bytes(const ModelSpec& spec, int sequences, std::int64_t context_tokens, DType dtype) {
  return 2 * std::int64_t{spec.layers} * sequences * context_tokens * spec.kv_heads * spec.head_dim *
         size_of(dtype);
}

std::int64_t workspace_bytes(const ModelSpec& spec, const Capacity& capacity, std::int64_t activation_bytes) {
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < kBuffers; ++i) {
    const BufferShape shape = buffer_shape(spec, capacity, static_cast<Buffer>(i));
    elements += shape.rows * shape.columns;
  }
  std::int64_t floats = capacity.logit_rows * spec.vocab_size;  // logits for the host
  if (uses_rope(spec, LayerRope::kGlobal)) floats += capacity.context_tokens * spec.rope.rotary_dim;
  if (uses_rope(spec, LayerRope::kLocal)) floats += capacity.context_tokens * spec.local_rope->rotary_dim;
  if (spec.alibi != Alibi::kNone) floats += spec.heads;
  return elements * activation_bytes + floats * std::int64_t{sizeof(float)};
}

}  // namespace qtool
