// One layer of the forward pass.
#include <array>
#include <cmath>

#include "core/model/transformer.h"

namespace qtool {

// Linear layers that read the same input, and where their results go; at most q, k, v, gate and up.
struct Transformer::Products {
  std::array<const Backend::Linear*, 5> linears;
  std::array<Backend::Array*, 5> outs;
  std::size_t count = 0;

  void add(const Backend::Linear& linear, Backend::Array& out) {
    linears[count] = &linear;
    outs[count++] = &out;
  }
};

Backend::Norm Transformer::norm_of(const RoleWeights& weights, Role role) const {
  return {spec_.norm, static_cast<float>(spec_.norm_eps), weights.table(role),
          spec_.norm_plus_one ? 1.0f : 0.0f, weights.bias(role)};
}

Backend::Norm Transformer::qk_norm_of(const RoleWeights& weights, Role role) const {
  Backend::Norm norm = norm_of(weights, role);
  norm.kind = spec_.qk_norm_kind;
  return norm;
}

void Transformer::run_layer(int index, const Step& step) {
  const RoleWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
  const bool experts = spec_.layer(index).experts;
  Products attention, mlp;
  add_attention_products(layer, attention);
  if (spec_.parallel) {
    // Both blocks read the stream before either adds to it.
    add_mlp_products(layer, spec_.one_norm ? attention : mlp);
    project(layer, Role::kInputNorm, attention, step);
    if (!spec_.one_norm) project(layer, Role::kMlpNorm, mlp, step);
    attend(index, step);
    finish_attention(layer, step);
    finish_mlp(layer, step);
    return;
  }
  project(layer, Role::kInputNorm, attention, step);
  attend(index, step);
  finish_attention(layer, step);
  if (experts) return run_experts(layer, step);
  if (spec_.gated_mlp && !spec_.fused_gate_up && spec_.norm_place == NormPlace::kBefore &&
      !spec_.residual_from_norm)
    return backend_.gated_mlp_add(
        {norm_of(layer, Role::kMlpNorm), layer.linear(Role::kGate), layer.linear(Role::kUp),
         layer.linear(Role::kDown), spec_.activation, static_cast<float>(spec_.residual_scale)},
        step.rows, space_[Buffer::kBlock], space_[Buffer::kGate], space_[Buffer::kUp],
        space_[Buffer::kStream]);
  add_mlp_products(layer, mlp);
  project(layer, Role::kMlpNorm, mlp, step);
  finish_mlp(layer, step);
}

void Transformer::add_attention_products(const RoleWeights& layer, Products& products) const {
  if (spec_.qkv_layout != QkvLayout::kSeparate)
    return products.add(layer.linear(Role::kQkv), space_[Buffer::kQkv]);
  products.add(layer.linear(Role::kQuery), space_[Buffer::kQuery]);
  products.add(layer.linear(Role::kKey), space_[Buffer::kKey]);
  products.add(layer.linear(Role::kValue), space_[Buffer::kValue]);
}

void Transformer::add_mlp_products(const RoleWeights& layer, Products& products) const {
  if (spec_.fused_gate_up) return products.add(layer.linear(Role::kGateUp), space_[Buffer::kGateUp]);
  if (spec_.gated_mlp) products.add(layer.linear(Role::kGate), space_[Buffer::kGate]);
  products.add(layer.linear(Role::kUp), space_[spec_.gated_mlp ? Buffer::kUp : Buffer::kGate]);
}

// What a block reads: linear layers of the stream, behind the norm where it stands before them.
void Transformer::project(const RoleWeights& layer, Role norm, const Products& products, const Step& step) {
  Backend::Array& x = space_[Buffer::kStream];
  const std::span linears(products.linears.data(), products.count);
  const std::span outs(products.outs.data(), products.count);
  const bool before = spec_.norm_place == NormPlace::kBefore || spec_.norm_place == NormPlace::kBeforeAfter;
  if (before && !spec_.residual_from_norm)
    return backend_.norm_linears(x, norm_of(layer, norm), linears, step.rows, space_[Buffer::kBlock], outs);
  if (before) backend_.norm(x, norm_of(layer, norm), step.rows, x);
  for (std::size_t i = 0; i < products.count; ++i) backend_.linear(x, *linears[i], step.rows, *outs[i]);
}

// From the projections to the heads' results.
void Transformer::attend(int index, const Step& step) {
  const RoleWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
  const LayerSpec own = spec_.layer(index);
  Backend::Array& query = space_[Buffer::kQuery];
  Backend::Array& key = space_[Buffer::kKey];
  Backend::Array& value = space_[Buffer::kValue];
  if (spec_.qkv_layout != QkvLayout::kSeparate) {
    Backend::Array* const parts[] = {&query, &key, &value};
    const int groups = spec_.qkv_layout == QkvLayout::kGrouped ? spec_.kv_heads : 1;
    backend_.split(space_[Buffer::kQkv], groups, step.rows, parts);
  }
  if (spec_.qkv_limit > 0.0)
    for (Backend::Array* array : {&query, &key, &value})
      backend_.clamp(*array, static_cast<float>(spec_.qkv_limit), step.rows);
  if (spec_.qk_norm != QkNorm::kNone) {
    const bool all = spec_.qk_norm == QkNorm::kAll;
    backend_.norm_groups(query, qk_norm_of(layer, Role::kQueryNorm), all ? 1 : spec_.heads, step.rows);
    backend_.norm_groups(key, qk_norm_of(layer, Role::kKeyNorm), all ? 1 : spec_.kv_heads, step.rows);
  }
  const RopeTable& rope = own.rope == LayerRope::kLocal ? local_rope_ : global_rope_;
  Backend::AttentionOptions how;
  how.scale =
      static_cast<float>(own.attention_scale != 0.0 ? own.attention_scale
                                                    : 1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));
  how.softcap = static_cast<float>(spec_.attention_softcap);
  how.window = own.window;
  how.slopes = slopes_.get();
  how.slopes_bfloat16 = spec_.alibi == Alibi::kFalcon;
  backend_.rope_attention(query, key, value, own.rope == LayerRope::kNone ? nullptr : rope.table.get(),
                          spec_.heads, how, step.segments, index, *cache_, space_[Buffer::kAttention]);
}

void Transformer::finish_attention(const RoleWeights& layer, const Step& step) {
  const Backend::Linear& output = layer.linear(Role::kAttentionOutput);
  const Backend::Array& heads = space_[Buffer::kAttention];
  Backend::Array& block = space_[Buffer::kBlock];
  Backend::Array& x = space_[Buffer::kStream];
  if (spec_.norm_place == NormPlace::kBefore)
    return backend_.linear_add(heads, output, static_cast<float>(spec_.residual_scale), step.rows, block, x);
  backend_.linear(heads, output, step.rows, block);
  const bool both = spec_.norm_place == NormPlace::kBeforeAfter;
  finish_block(layer, both ? Role::kAttentionOutputNorm : Role::kInputNorm, block, step);
}

void Transformer::finish_mlp(const RoleWeights& layer, const Step& step) {
  const Backend::Linear& down = layer.linear(Role::kDown);
  Backend::Array& gate = space_[Buffer::kGate];
  const Backend::Array* up = spec_.gated_mlp ? &space_[Buffer::kUp] : nullptr;
  Backend::Array& block = space_[Buffer::kBlock];
  if (spec_.fused_gate_up) {
    Backend::Array* const parts[] = {&gate, &space_[Buffer::kUp]};
    backend_.split(space_[Buffer::kGateUp], 1, step.rows, parts);
  }
  if (spec_.norm_place == NormPlace::kBefore)
    return backend_.gated_linear_add(gate, up, spec_.activation, down,
                                     static_cast<float>(spec_.residual_scale), step.rows, block,
                                     space_[Buffer::kStream]);
  backend_.gate(gate, up, spec_.activation, step.rows);
  backend_.linear(gate, down, step.rows, block);
  const bool both = spec_.norm_place == NormPlace::kBeforeAfter;
  finish_block(layer, both ? Role::kMlpOutputNorm : Role::kMlpNorm, block, step);
}

// Adds a block's result to the stream where a norm stands behind the block: before or after the addition.
void Transformer::finish_block(const RoleWeights& layer, Role norm, Backend::Array& result,
                               const Step& step) {
  Backend::Array& x = space_[Buffer::kStream];
  const bool on_sum = spec_.norm_place == NormPlace::kOnResidual;
  if (!on_sum && spec_.norm_place != NormPlace::kBefore)
    backend_.norm(result, norm_of(layer, norm), step.rows, result);
  backend_.add(x, result, static_cast<float>(spec_.residual_scale), step.rows);
  if (on_sum) backend_.norm(x, norm_of(layer, norm), step.rows, x);
}

}  // namespace qtool
