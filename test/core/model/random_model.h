// A small model with made-up weights, for tests of the forward pass that need no particular output.
#pragma once

#include <cmath>
#include <memory>

#include "core/cpu/cpu_backend.h"
#include "core/model/transformer.h"

namespace qtool::test {

inline ModelSpec small_spec() {
  ModelSpec spec;
  spec.vocab_size = 40;
  spec.hidden_size = 24;
  spec.intermediate_size = 36;
  spec.layers = 2;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = 8;
  spec.max_positions = 64;
  spec.dtype = DType::kF32;
  spec.rope.rotary_dim = 8;
  spec.rope.original_max_positions = 64;
  return spec;
}

// Every weight from one stream of numbers in [-scale, scale].
class RandomWeights : public WeightSource {
 public:
  explicit RandomWeights(const ModelSpec& spec) : spec_(spec) {}

  Weight linear(Role role, int) override {
    const std::int64_t query = std::int64_t{spec_.heads} * spec_.head_dim;
    const std::int64_t key = std::int64_t{spec_.kv_heads} * spec_.head_dim;
    switch (role) {
      case Role::kQuery:
        return DenseWeight{values({query, spec_.hidden_size})};
      case Role::kKey:
      case Role::kValue:
        return DenseWeight{values({key, spec_.hidden_size})};
      case Role::kAttentionOutput:
        return DenseWeight{values({spec_.hidden_size, query})};
      case Role::kDown:
        return DenseWeight{values({spec_.hidden_size, spec_.intermediate_size})};
      case Role::kHead:
        return DenseWeight{values({spec_.vocab_size, spec_.hidden_size})};
      default:
        return DenseWeight{values({spec_.intermediate_size, spec_.hidden_size})};
    }
  }
  std::optional<Tensor> bias(Role, int) override { return std::nullopt; }
  Tensor dense(Role role, int) override {
    return role == Role::kEmbedding ? values({spec_.vocab_size, spec_.hidden_size})
                                    : values({spec_.hidden_size});
  }

 private:
  Tensor values(Shape shape) {
    Tensor tensor(DType::kF32, std::move(shape));
    for (float& value : tensor.as<float>()) {
      state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
      value = static_cast<float>(static_cast<double>(state_ >> 11) * 0x1p-53 - 0.5);
    }
    return tensor;
  }

  ModelSpec spec_;
  std::uint64_t state_ = 1;
};

inline std::unique_ptr<Transformer> random_model(Backend& backend, const ModelSpec& spec,
                                                 const Capacity& capacity) {
  RandomWeights weights(spec);
  Transformer::Options options;
  options.capacity = capacity;
  return std::make_unique<Transformer>(spec, backend, weights, options, nullptr);
}

}  // namespace qtool::test
