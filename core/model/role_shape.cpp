#include "core/model/role_shape.h"

#include "core/error.h"

namespace qtool {

Shape role_shape(const ModelSpec& spec, Role role) {
  const std::int64_t query = std::int64_t{spec.heads} * spec.head_dim;
  const std::int64_t key = std::int64_t{spec.kv_heads} * spec.head_dim;
  switch (role) {
    case Role::kEmbedding:
    case Role::kHead:
      return {spec.vocab_size, spec.hidden_size};
    case Role::kInputNorm:
    case Role::kMlpNorm:
    case Role::kFinalNorm:
      return {spec.hidden_size};
    case Role::kQuery:
      return {query, spec.hidden_size};
    case Role::kKey:
    case Role::kValue:
      return {key, spec.hidden_size};
    case Role::kAttentionOutput:
      return {spec.hidden_size, query};
    case Role::kGate:
    case Role::kUp:
      return {spec.intermediate_size, spec.hidden_size};
    case Role::kDown:
      return {spec.hidden_size, spec.intermediate_size};
    case Role::kIgnored:
      break;
  }
  throw internal_error("no shape for a tensor that the model does not read");
}

}  // namespace qtool
