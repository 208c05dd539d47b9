// Which weights a given model has, and how large each is: the one formula for loading, checking and making up
// weights.
#pragma once

#include <vector>

#include "core/model/roles.h"
#include "core/model/spec.h"
#include "core/tensor.h"

namespace qtool {

// Every tensor that the forward pass of such a model asks a WeightSource for, weights and biases, in the
// order in which it runs through them. A weight comes before its bias; experts are told apart by their part;
// norms of single heads count as one tensor (part -1). A tied head has no weight of its own.
std::vector<TensorRole> model_roles(const ModelSpec& spec);

// Of one layer, or with layer -1 of what stands outside of them.
std::vector<TensorRole> layer_roles(const ModelSpec& spec, int layer);

// Logical shape of a role's weight, the same in every layer; for a linear layer [out, in]. Errors: kInternal
// for Role::kIgnored, which no model reads.
Shape role_shape(const ModelSpec& spec, Role role);

// Shape of the bias of a role that has one: [out] of a linear layer, otherwise that of the norm's weight.
Shape bias_shape(const ModelSpec& spec, Role role);

}  // namespace qtool
