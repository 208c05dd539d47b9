// A model's weights as the backend computes with them, found by their role.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/model/backend.h"
#include "core/model/roles.h"
#include "core/model/spec.h"
#include "core/model/weight_source.h"

namespace qtool {

// Of one layer, or of what stands outside of them.
class RoleWeights {
 public:
  // A linear layer that the model has; `part` is the expert's number where the role is one of experts.
  const Backend::Linear& linear(Role role, int part = 0) const {
    return *linears_[index(role)][static_cast<std::size_t>(part)];
  }
  // An embedding, positions, or a norm's weight or bias; null where the model has none.
  const Backend::Table* table(Role role) const { return tables_[index(role)].get(); }
  const Backend::Table* bias(Role role) const { return biases_[index(role)].get(); }

  std::int64_t bytes() const;           // of all
  std::int64_t bytes(Role role) const;  // of one role, of all its parts

 private:
  friend class ModelLoader;
  static constexpr std::size_t kRoles = static_cast<std::size_t>(Role::kIgnored) + 1;
  static std::size_t index(Role role) { return static_cast<std::size_t>(role); }

  std::array<std::vector<std::unique_ptr<Backend::Linear>>, kRoles> linears_;  // [role][part]
  std::array<std::unique_ptr<Backend::Table>, kRoles> tables_;                 // by role
  std::array<std::unique_ptr<Backend::Table>, kRoles> biases_;                 // of norms
};

struct ModelWeights {
  RoleWeights outside;
  std::vector<RoleWeights> layers;
  std::int64_t bytes() const;
  // What one token's way through the model reads: of an embedding and positions one row, of experts the
  // chosen ones.
  std::int64_t bytes_per_token(const ModelSpec& spec) const;
};

struct ProductTypes {
  DType packed;  // of products with 4-bit weights
  DType dense;   // of all others
};

// Asks `source` for everything that model_roles(spec) names, once. `loaded` hears of the bytes of each as it
// arrives. Errors: kMalformed for a weight of another shape than `spec` says; kMemory; what the source
// throws.
ModelWeights load_weights(const ModelSpec& spec, Backend& backend, WeightSource& source,
                          const ProductTypes& types, const std::function<void(std::int64_t)>& loaded);

}  // namespace qtool
