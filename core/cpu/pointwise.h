// Operations on tokens one element or one row at a time.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/spec.h"
#include "core/tensor.h"

namespace qtool::cpu {

// out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight; x and out [rows, cols], may be the same; weight [cols].
void rms_norm(const float* x, const Tensor& weight, float eps, std::int64_t rows, std::int64_t cols,
              int threads, float* out);

// gate[i] = activation(gate[i]) * up[i]
void gate(float* gate, const float* up, Activation activation, std::int64_t count, int threads);

}  // namespace qtool::cpu
