// What a tensor is, whatever its name in a file.
#pragma once

#include <cstdint>
#include <string_view>

namespace qtool {

enum class Role : std::uint8_t {
  kEmbedding,        // [vocab, hidden]
  kInputNorm,        // before attention, [hidden]
  kQuery,            // linear [heads * head_dim, hidden]
  kKey,              // linear [kv_heads * head_dim, hidden]
  kValue,            // linear [kv_heads * head_dim, hidden]
  kAttentionOutput,  // linear [hidden, heads * head_dim]
  kMlpNorm,          // before the MLP, [hidden]
  kGate,             // linear [intermediate, hidden]
  kUp,               // linear [intermediate, hidden]
  kDown,             // linear [hidden, intermediate]
  kFinalNorm,        // [hidden]
  kHead,             // linear [vocab, hidden]
  kIgnored,          // a stray buffer that the model does not read (rotary_emb.inv_freq)
};

enum class Piece : std::uint8_t { kWeight, kBias };

// A role's place in the model. `layer` is -1 outside the layers.
struct TensorRole {
  Role role = Role::kIgnored;
  int layer = -1;
  Piece piece = Piece::kWeight;
};

// Weights of nn.Linear modules: what bitsandbytes replaces.
constexpr bool is_linear(Role role) {
  switch (role) {
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kAttentionOutput:
    case Role::kGate:
    case Role::kUp:
    case Role::kDown:
    case Role::kHead:
      return true;
    default:
      return false;
  }
}

// Size classes of reports: "embedding", "attention", "mlp", "norm", "head", "other".
std::string_view class_of(Role role);

}  // namespace qtool
