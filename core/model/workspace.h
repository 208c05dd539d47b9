// The activations of a forward pass: which arrays a model needs and how large they are. One table for what
// memory.h predicts and what is allocated.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "core/model/backend.h"
#include "core/model/memory.h"
#include "core/model/spec.h"

namespace qtool {

enum class Buffer : std::uint8_t {
  // of the tokens of a step, [chunk_tokens, .]
  kStream,     // residual stream, [hidden]
  kBlock,      // what a block reads, behind its norm, then what it gives, [hidden]
  kEmbedded,   // [embedding_columns] where it is projected to hidden
  kQkv,        // fused projections
  kQuery,      // [heads * head_dim]
  kKey,        // [kv_heads * head_dim]
  kValue,      // [kv_heads * head_dim]
  kAttention,  // [heads * head_dim]
  kGateUp,     // fused projections
  kGate,       // what goes through the activation, [intermediate]
  kUp,         // its factor in a gated MLP, [intermediate]
  kRouter,     // [experts]
  kMixed,      // sum of the experts' results, [hidden]
  kPicked,     // the tokens of one expert, then its result, [hidden]
  kExpertGate,
  kExpertUp,  // [expert intermediate]
  kSharedGate,
  kSharedUp,      // [shared intermediate]
  kSharedWeight,  // [1]
  // of the tokens whose logits are wanted, [logit_rows, .]
  kLast,       // last hidden state, [hidden]
  kLastNorm,   // the same behind the final norm
  kProjected,  // [embedding_columns] where it is projected from hidden
  kLogits,     // [vocab]
};
inline constexpr std::size_t kBuffers = static_cast<std::size_t>(Buffer::kLogits) + 1;

// Rows and columns; none where the model has no use for it.
struct BufferShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
BufferShape buffer_shape(const ModelSpec& spec, const Capacity& capacity, Buffer buffer);

class Workspace {
 public:
  Workspace() = default;
  // Errors: kMemory.
  Workspace(Backend& backend, const ModelSpec& spec, const Capacity& capacity);

  // Only of a buffer that the model uses.
  Backend::Array& operator[](Buffer buffer) const { return *arrays_[static_cast<std::size_t>(buffer)]; }
  std::int64_t bytes() const;

 private:
  std::array<std::unique_ptr<Backend::Array>, kBuffers> arrays_;
};

}  // namespace qtool
