#include "core/model/workspace.h"

namespace qtool {
namespace {

bool any_layer_has_experts(const ModelSpec& spec, bool experts) {
  for (int i = 0; i < spec.layers; ++i)
    if (spec.layer(i).experts == experts) return true;
  return false;
}

// Columns of a buffer; 0: not used.
std::int64_t columns_of(const ModelSpec& spec, Buffer buffer) {
  const std::int64_t query = std::int64_t{spec.heads} * spec.head_dim;
  const std::int64_t key = std::int64_t{spec.kv_heads} * spec.head_dim;
  const std::int64_t dense = any_layer_has_experts(spec, false) ? spec.intermediate_size : 0;
  const bool experts = any_layer_has_experts(spec, true);
  const std::int64_t routed = experts ? spec.experts.intermediate_size : 0;
  const std::int64_t shared = experts ? spec.experts.shared_intermediate_size : 0;
  switch (buffer) {
    case Buffer::kStream:
    case Buffer::kBlock:
    case Buffer::kLast:
      return spec.hidden_size;
    case Buffer::kEmbedded:
    case Buffer::kProjected:
      return spec.embedding_size;
    case Buffer::kQkv:
      return spec.qkv_layout == QkvLayout::kSeparate ? 0 : query + 2 * key;
    case Buffer::kQuery:
    case Buffer::kAttention:
      return query;
    case Buffer::kKey:
    case Buffer::kValue:
      return key;
    case Buffer::kGateUp:
      return spec.fused_gate_up ? 2 * dense : 0;
    case Buffer::kGate:
      return dense;
    case Buffer::kUp:
      return spec.gated_mlp ? dense : 0;
    case Buffer::kRouter:
      return experts ? spec.experts.experts : 0;
    case Buffer::kMixed:
    case Buffer::kPicked:
      return experts ? spec.hidden_size : 0;
    case Buffer::kExpertGate:
    case Buffer::kExpertUp:
      return routed;
    case Buffer::kSharedGate:
    case Buffer::kSharedUp:
      return shared;
    case Buffer::kSharedWeight:
      return shared > 0 ? 1 : 0;
    case Buffer::kLastNorm:
      return spec.final_norm ? spec.hidden_size : 0;
    case Buffer::kLogits:
      return spec.vocab_size;
  }
  return 0;
}

}  // namespace

BufferShape buffer_shape(const ModelSpec& spec, const Capacity& capacity, Buffer buffer) {
  const std::int64_t columns = columns_of(spec, buffer);
  if (columns == 0) return {};
  return {buffer < Buffer::kLast ? capacity.chunk_tokens : capacity.logit_rows, columns};
}

Workspace::Workspace(Backend& backend, const ModelSpec& spec, const Capacity& capacity) {
  for (std::size_t i = 0; i < kBuffers; ++i) {
    const BufferShape shape = buffer_shape(spec, capacity, static_cast<Buffer>(i));
    if (shape.columns > 0) arrays_[i] = backend.make_array(shape.rows, shape.columns);
  }
}

std::int64_t Workspace::bytes() const {
  std::int64_t bytes = 0;
  for (const auto& array : arrays_)
    if (array) bytes += array->bytes();
  return bytes;
}

}  // namespace qtool
