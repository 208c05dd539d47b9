// A mixture of experts in place of a layer's MLP. The host learns from the router which tokens each expert
// takes, so an expert's weights are read once for all of them, and not at all where there are none.
#include "core/model/transformer.h"

namespace qtool {

void Transformer::run_experts(const RoleWeights& layer, const Step& step) {
  const Backend::Array* input = &space_[Buffer::kStream];
  if (spec_.norm_place == NormPlace::kBefore || spec_.norm_place == NormPlace::kBeforeAfter) {
    backend_.norm(*input, norm_of(layer, Role::kMlpNorm), step.rows, space_[Buffer::kBlock]);
    input = &space_[Buffer::kBlock];
  }
  router_logits_.resize(static_cast<std::size_t>(step.rows * spec_.experts.experts));
  backend_.linear(*input, layer.linear(Role::kRouter), step.rows, space_[Buffer::kRouter]);
  backend_.read(space_[Buffer::kRouter], step.rows, router_logits_);
  route(spec_.experts, router_logits_, expert_tokens_);

  backend_.clear(space_[Buffer::kMixed], step.rows);
  for (int expert = 0; expert < spec_.experts.experts; ++expert) add_expert(layer, expert, *input);
  if (spec_.experts.shared_intermediate_size > 0) add_shared_expert(layer, *input, step);
  const bool both = spec_.norm_place == NormPlace::kBeforeAfter;
  finish_block(layer, both ? Role::kMlpOutputNorm : Role::kMlpNorm, space_[Buffer::kMixed], step);
}

void Transformer::add_expert(const RoleWeights& layer, int expert, const Backend::Array& input) {
  const ExpertTokens& tokens = expert_tokens_[static_cast<std::size_t>(expert)];
  const auto count = static_cast<std::int64_t>(tokens.rows.size());
  if (count == 0) return;
  Backend::Array& picked = space_[Buffer::kPicked];
  Backend::Array& gate = space_[Buffer::kExpertGate];
  Backend::Array& up = space_[Buffer::kExpertUp];
  backend_.gather(input, tokens.rows, picked);
  backend_.linear(picked, layer.linear(Role::kExpertGate, expert), count, gate);
  backend_.linear(picked, layer.linear(Role::kExpertUp, expert), count, up);
  backend_.gate(gate, &up, spec_.activation, count);
  backend_.linear(gate, layer.linear(Role::kExpertDown, expert), count, picked);
  backend_.scatter_add(picked, tokens.rows, tokens.weights, space_[Buffer::kMixed]);
}

// One more expert, which takes every token; how much of it counts is the token's own matter.
void Transformer::add_shared_expert(const RoleWeights& layer, const Backend::Array& input, const Step& step) {
  Backend::Array& result = space_[Buffer::kPicked];
  Backend::Array& gate = space_[Buffer::kSharedGate];
  Backend::Array& up = space_[Buffer::kSharedUp];
  router_logits_.resize(static_cast<std::size_t>(step.rows));
  backend_.linear(input, layer.linear(Role::kSharedWeight), step.rows, space_[Buffer::kSharedWeight]);
  backend_.read(space_[Buffer::kSharedWeight], step.rows, router_logits_);
  ExpertTokens& all = expert_tokens_.front();
  share(router_logits_, all);
  backend_.linear(input, layer.linear(Role::kSharedGate), step.rows, gate);
  backend_.linear(input, layer.linear(Role::kSharedUp), step.rows, up);
  backend_.gate(gate, &up, spec_.activation, step.rows);
  backend_.linear(gate, layer.linear(Role::kSharedDown), step.rows, result);
  backend_.scatter_add(result, all.rows, all.weights, space_[Buffer::kMixed]);
}

}  // namespace qtool
