// Causal attention on the CPU, and what feeds its cache.
#pragma once

#include <span>

#include "core/cpu/kernel_functions.h"
#include "core/cpu/residents.h"
#include "core/cpu/scratch.h"

namespace qtool::cpu {

// Backend::rope_append. q [tokens, heads * head_dim], k and v [tokens, kv_heads * head_dim].
void rope_append(float* q, float* k, const float* v, const CpuRope* rope, int heads,
                 std::span<const Segment> segments, int layer, int threads, CpuCache& cache);

// Backend::attention. q and out [tokens, heads * head_dim]. Softmax in float32, online over chunks of
// positions (Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018), so that neither a row
// of scores nor a widened copy of the cache is ever stored. A token's result does not depend on how tokens
// are cut into segments. Positions that no token of a piece of work can see because of the window are not
// read.
void attention(const KernelFunctions& kernels, const float* q, const CpuCache& cache, int layer, int heads,
               const Backend::AttentionOptions& options, std::span<const Segment> segments, int threads,
               Scratch& scratch, float* out);

}  // namespace qtool::cpu
