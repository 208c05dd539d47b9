#include "core/model/roles.h"

namespace qtool {

std::string_view class_of(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return "embedding";
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kAttentionOutput:
      return "attention";
    case Role::kGate:
    case Role::kUp:
    case Role::kDown:
      return "mlp";
    case Role::kInputNorm:
    case Role::kMlpNorm:
    case Role::kFinalNorm:
      return "norm";
    case Role::kHead:
      return "head";
    case Role::kIgnored:
      return "other";
  }
  return "other";
}

}  // namespace qtool
