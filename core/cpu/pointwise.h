// Operations on tokens one element or one row at a time.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/spec.h"
#include "core/tensor.h"

namespace qtool::cpu {

// Backend::Norm with its tables' values, each [cols / groups] or [cols], or missing.
struct Norm {
  NormKind kind = NormKind::kRms;
  float eps = 0.0f;
  const Tensor* weight = nullptr;
  float weight_offset = 0.0f;
  const Tensor* bias = nullptr;
};

// Backend::norm of every one of the `groups` equal pieces of each row; x and out [rows, cols], may be the
// same.
void norm(const float* x, const Norm& norm, int groups, std::int64_t rows, std::int64_t cols, int threads,
          float* out);

// gate[i] = activation(gate[i]) * up[i], or without `up` just the activation
void gate(float* gate, const float* up, Activation activation, std::int64_t count, int threads);

// x[i] = cap * tanh(x[i] / cap)
void softcap(float* x, float cap, std::int64_t count, int threads);

// outs[o] [rows, widths[o]]; see Backend::split
struct SplitPart {
  float* values;
  std::int64_t cols;
};
void split(const float* fused, int groups, std::int64_t rows, std::span<const SplitPart> parts);

}  // namespace qtool::cpu
