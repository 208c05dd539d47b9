#include "core/model/roles.h"

#include <cstddef>
#include <iterator>

namespace qtool {
namespace {

struct RoleText {
  Role role;
  std::string_view name;
  std::string_view size_class;
};

constexpr RoleText kRoleTexts[] = {
    {Role::kEmbedding, "embedding", "embedding"},
    {Role::kPositions, "learned positions", "embedding"},
    {Role::kEmbeddingNorm, "embedding norm", "norm"},
    {Role::kProjectIn, "projection of the embedding", "embedding"},
    {Role::kInputNorm, "attention norm", "norm"},
    {Role::kQuery, "query projection", "attention"},
    {Role::kKey, "key projection", "attention"},
    {Role::kValue, "value projection", "attention"},
    {Role::kQkv, "query, key and value projection", "attention"},
    {Role::kQueryNorm, "query norm", "norm"},
    {Role::kKeyNorm, "key norm", "norm"},
    {Role::kAttentionOutput, "attention output projection", "attention"},
    {Role::kAttentionOutputNorm, "attention output norm", "norm"},
    {Role::kMlpNorm, "MLP norm", "norm"},
    {Role::kGate, "gate projection", "mlp"},
    {Role::kUp, "up projection", "mlp"},
    {Role::kGateUp, "gate and up projection", "mlp"},
    {Role::kDown, "down projection", "mlp"},
    {Role::kMlpOutputNorm, "MLP output norm", "norm"},
    {Role::kRouter, "router", "mlp"},
    {Role::kExpertGate, "expert's gate projection", "mlp"},
    {Role::kExpertUp, "expert's up projection", "mlp"},
    {Role::kExpertDown, "expert's down projection", "mlp"},
    {Role::kSharedGate, "shared expert's gate projection", "mlp"},
    {Role::kSharedUp, "shared expert's up projection", "mlp"},
    {Role::kSharedDown, "shared expert's down projection", "mlp"},
    {Role::kSharedWeight, "shared expert's weight", "mlp"},
    {Role::kFinalNorm, "final norm", "norm"},
    {Role::kProjectOut, "projection to the head", "head"},
    {Role::kHead, "output head", "head"},
    {Role::kIgnored, "unused tensor", "other"},
};

constexpr bool every_role_in_order() {
  for (std::size_t i = 0; i < std::size(kRoleTexts); ++i)
    if (static_cast<std::size_t>(kRoleTexts[i].role) != i) return false;
  return std::size(kRoleTexts) == static_cast<std::size_t>(Role::kIgnored) + 1;
}
static_assert(every_role_in_order(), "roles are looked up by their number");

}  // namespace

std::string_view name_of(Role role) { return kRoleTexts[static_cast<std::size_t>(role)].name; }
std::string_view class_of(Role role) { return kRoleTexts[static_cast<std::size_t>(role)].size_class; }

}  // namespace qtool
