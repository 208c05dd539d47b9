// Small models with made-up weights, for tests of the forward pass that need no particular output.
#pragma once

#include <cmath>
#include <memory>

#include "core/cpu/cpu_backend.h"
#include "core/model/role_shape.h"
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

  Weight linear(Role role, int, int) override { return DenseWeight{values(role_shape(spec_, role))}; }
  std::optional<Tensor> bias(Role role, int, int) override { return values(bias_shape(spec_, role)); }
  Tensor dense(Role role, int) override { return values(role_shape(spec_, role)); }

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
