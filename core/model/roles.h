// What a tensor is, whatever its name in a file.
#pragma once

#include <cstdint>
#include <string_view>

namespace qtool {

enum class Role : std::uint8_t {
  kEmbedding,            // [vocab, embedding_columns]
  kPositions,            // learned positions [max_positions + offset, hidden]
  kEmbeddingNorm,        // [hidden]
  kProjectIn,            // linear [hidden, embedding_columns]
  kInputNorm,            // of attention: before it, or where NormPlace says, [hidden]
  kQuery,                // linear [heads * head_dim, hidden]
  kKey,                  // linear [kv_heads * head_dim, hidden]
  kValue,                // linear [kv_heads * head_dim, hidden]
  kQkv,                  // all three as QkvLayout says, linear [(heads + 2 kv_heads) * head_dim, hidden]
  kQueryNorm,            // as QkNorm says
  kKeyNorm,              // as QkNorm says
  kAttentionOutput,      // linear [hidden, heads * head_dim]
  kAttentionOutputNorm,  // NormPlace::kBeforeAfter, [hidden]
  kMlpNorm,              // of the MLP, as kInputNorm
  kGate,                 // linear [intermediate, hidden]
  kUp,                   // linear [intermediate, hidden]
  kGateUp,               // linear [2 intermediate, hidden]
  kDown,                 // linear [hidden, intermediate]
  kMlpOutputNorm,        // NormPlace::kBeforeAfter, [hidden]
  kRouter,               // [experts, hidden]
  kExpertGate,           // linear [expert intermediate, hidden], one an expert
  kExpertUp,             // linear [expert intermediate, hidden], one an expert
  kExpertDown,           // linear [hidden, expert intermediate], one an expert
  kSharedGate,           // linear [shared intermediate, hidden]
  kSharedUp,             // linear [shared intermediate, hidden]
  kSharedDown,           // linear [hidden, shared intermediate]
  kSharedWeight,         // linear [1, hidden]: the shared expert's weight before the sigmoid
  kFinalNorm,            // [hidden]
  kProjectOut,           // linear [embedding_columns, hidden]
  kHead,                 // linear [vocab, embedding_columns]
  kIgnored,              // a stray buffer that the model does not read (rotary_emb.inv_freq)
};

enum class Piece : std::uint8_t { kWeight, kBias };

// A role's place in the model. `layer` is -1 outside the layers; `part` counts the experts of a layer, or the
// heads where each head's norm is a tensor of its own, and is -1 elsewhere.
struct TensorRole {
  Role role = Role::kIgnored;
  int layer = -1;
  Piece piece = Piece::kWeight;
  int part = -1;
};

// Weights of linear layers: products with activations. Which of them bitsandbytes replaces is the family's
// matter (Architecture): transformers' routers and fused experts are no nn.Linear.
constexpr bool is_linear(Role role) {
  switch (role) {
    case Role::kProjectIn:
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kQkv:
    case Role::kAttentionOutput:
    case Role::kGate:
    case Role::kUp:
    case Role::kGateUp:
    case Role::kDown:
    case Role::kRouter:
    case Role::kExpertGate:
    case Role::kExpertUp:
    case Role::kExpertDown:
    case Role::kSharedGate:
    case Role::kSharedUp:
    case Role::kSharedDown:
    case Role::kSharedWeight:
    case Role::kProjectOut:
    case Role::kHead:
      return true;
    default:
      return false;
  }
}

// What bitsandbytes makes of a module when it quantizes a model.
enum class ModuleKind : std::uint8_t {
  kLinear,  // nn.Linear: replaced
  kConv1D,  // transformers' Conv1D, stored [in, out]: replaced, and transposed to [out, in] first
  kOther,   // anything else: kept, also where it is a product (routers, fused experts, Falcon's own class)
};

// In words, for messages: "query projection".
std::string_view name_of(Role role);

// Size classes of reports: "embedding", "attention", "mlp", "norm", "head", "other".
std::string_view class_of(Role role);

}  // namespace qtool
