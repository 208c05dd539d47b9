#include "core/model/role_shape.h"

#include <utility>

#include "core/error.h"

namespace qtool {
namespace {

// Collects the roles of one layer, or of what stands outside of the layers.
class RoleList {
 public:
  explicit RoleList(int layer) : layer_(layer) {}

  void add(Role role, bool weight, bool bias, int part = -1) {
    if (weight) roles_.push_back({role, layer_, Piece::kWeight, part});
    if (bias) roles_.push_back({role, layer_, Piece::kBias, part});
  }
  void norm(const ModelSpec& spec, Role role) { add(role, spec.norm_weight, spec.norm_bias); }
  void linear(Role role, bool bias = false, int part = -1) { add(role, true, bias, part); }
  std::vector<TensorRole> take() { return std::move(roles_); }

 private:
  int layer_;
  std::vector<TensorRole> roles_;
};

void add_attention(const ModelSpec& spec, RoleList& list) {
  if (spec.qkv_layout == QkvLayout::kSeparate)
    for (const Role role : {Role::kQuery, Role::kKey, Role::kValue}) list.linear(role, spec.qkv_bias);
  else
    list.linear(Role::kQkv, spec.qkv_bias);
  if (spec.qk_norm != QkNorm::kNone)
    for (const Role role : {Role::kQueryNorm, Role::kKeyNorm}) list.add(role, true, spec.qk_norm_bias);
  list.linear(Role::kAttentionOutput, spec.attention_output_bias);
}

void add_mlp(const ModelSpec& spec, RoleList& list) {
  if (spec.fused_gate_up) {
    list.linear(Role::kGateUp, spec.mlp_bias);
  } else {
    if (spec.gated_mlp) list.linear(Role::kGate, spec.mlp_bias);
    list.linear(Role::kUp, spec.mlp_bias);
  }
  list.linear(Role::kDown, spec.mlp_bias);
}

void add_experts(const ModelSpec& spec, RoleList& list) {
  list.linear(Role::kRouter);
  for (int expert = 0; expert < spec.experts.experts; ++expert)
    for (const Role role : {Role::kExpertGate, Role::kExpertUp, Role::kExpertDown})
      list.linear(role, false, expert);
  if (spec.experts.shared_intermediate_size > 0)
    for (const Role role : {Role::kSharedGate, Role::kSharedUp, Role::kSharedDown, Role::kSharedWeight})
      list.linear(role);
}

std::vector<TensorRole> layer_list(const ModelSpec& spec, int layer) {
  RoleList list(layer);
  const bool after_too = spec.norm_place == NormPlace::kBeforeAfter;
  list.norm(spec, Role::kInputNorm);
  add_attention(spec, list);
  if (after_too) list.norm(spec, Role::kAttentionOutputNorm);
  if (!(spec.parallel && spec.one_norm)) list.norm(spec, Role::kMlpNorm);
  if (spec.layer(layer).experts)
    add_experts(spec, list);
  else
    add_mlp(spec, list);
  if (after_too) list.norm(spec, Role::kMlpOutputNorm);
  return list.take();
}

std::vector<TensorRole> before_layers(const ModelSpec& spec) {
  RoleList list(-1);
  list.add(Role::kEmbedding, true, false);
  if (spec.embedding_size != 0) list.linear(Role::kProjectIn);
  if (spec.learned_positions) list.add(Role::kPositions, true, false);
  if (spec.embedding_norm) list.norm(spec, Role::kEmbeddingNorm);
  return list.take();
}

std::vector<TensorRole> after_layers(const ModelSpec& spec) {
  RoleList list(-1);
  if (spec.final_norm) list.norm(spec, Role::kFinalNorm);
  if (spec.embedding_size != 0) list.linear(Role::kProjectOut);
  list.add(Role::kHead, !spec.tied_head, spec.head_bias);
  return list.take();
}

void append(std::vector<TensorRole>& roles, const std::vector<TensorRole>& more) {
  roles.insert(roles.end(), more.begin(), more.end());
}

}  // namespace

std::vector<TensorRole> layer_roles(const ModelSpec& spec, int layer) {
  if (layer >= 0) return layer_list(spec, layer);
  std::vector<TensorRole> roles = before_layers(spec);
  append(roles, after_layers(spec));
  return roles;
}

std::vector<TensorRole> model_roles(const ModelSpec& spec) {
  std::vector<TensorRole> roles = before_layers(spec);
  for (int layer = 0; layer < spec.layers; ++layer) append(roles, layer_list(spec, layer));
  append(roles, after_layers(spec));
  return roles;
}

Shape role_shape(const ModelSpec& spec, Role role) {
  const std::int64_t hidden = spec.hidden_size;
  const std::int64_t query = std::int64_t{spec.heads} * spec.head_dim;
  const std::int64_t key = std::int64_t{spec.kv_heads} * spec.head_dim;
  const ExpertSpec& experts = spec.experts;
  switch (role) {
    case Role::kEmbedding:
    case Role::kHead:
      return {spec.vocab_size, spec.embedding_columns()};
    case Role::kPositions:
      return {spec.max_positions + spec.learned_positions.value_or(0), hidden};
    case Role::kProjectIn:
      return {hidden, spec.embedding_columns()};
    case Role::kProjectOut:
      return {spec.embedding_columns(), hidden};
    case Role::kEmbeddingNorm:
    case Role::kInputNorm:
    case Role::kAttentionOutputNorm:
    case Role::kMlpNorm:
    case Role::kMlpOutputNorm:
    case Role::kFinalNorm:
      return {hidden};
    case Role::kQuery:
      return {query, hidden};
    case Role::kKey:
    case Role::kValue:
      return {key, hidden};
    case Role::kQkv:
      return {query + 2 * key, hidden};
    case Role::kQueryNorm:
      return {spec.qk_norm == QkNorm::kHead ? spec.head_dim : query};
    case Role::kKeyNorm:
      return {spec.qk_norm == QkNorm::kHead ? spec.head_dim : key};
    case Role::kAttentionOutput:
      return {hidden, query};
    case Role::kGate:
    case Role::kUp:
      return {spec.intermediate_size, hidden};
    case Role::kGateUp:
      return {2 * spec.intermediate_size, hidden};
    case Role::kDown:
      return {hidden, spec.intermediate_size};
    case Role::kRouter:
      return {experts.experts, hidden};
    case Role::kExpertGate:
    case Role::kExpertUp:
      return {experts.intermediate_size, hidden};
    case Role::kExpertDown:
      return {hidden, experts.intermediate_size};
    case Role::kSharedGate:
    case Role::kSharedUp:
      return {experts.shared_intermediate_size, hidden};
    case Role::kSharedDown:
      return {hidden, experts.shared_intermediate_size};
    case Role::kSharedWeight:
      return {1, hidden};
    case Role::kIgnored:
      break;
  }
  throw internal_error("no shape for a tensor that the model does not read");
}

Shape bias_shape(const ModelSpec& spec, Role role) { return {role_shape(spec, role)[0]}; }

}  // namespace qtool
