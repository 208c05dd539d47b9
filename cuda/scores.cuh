// What happens to q * k on its way into the softmax, whose base is 2 here.
#pragma once

#include "cuda/attention.h"
#include "cuda/device_math.cuh"

namespace qtool::cuda {

inline constexpr float kLog2e = 1.4426950408889634f;

// The whole rule, in float32, for one score; `slope` is that of the head. Where it is not shaped, this is
// product * (scale * kLog2e).
__device__ __forceinline__ float shaped_score(const ScoreRule& rule, float slope, float product, int key,
                                              int query) {
  float score = product * rule.scale;
  if (rule.softcap > 0.0f) score = rule.softcap * tanhf(score / rule.softcap);
  if (rule.slopes) {
    if (rule.slopes_bfloat16)
      score += rule.scale * rounded<__nv_bfloat16>(slope * rounded<__nv_bfloat16>(static_cast<float>(key)));
    else
      score += slope * static_cast<float>(key - query);
  }
  return score * kLog2e;
}

// The same out of line: most models' scores are not shaped, and kernels are shorter without.
__device__ __noinline__ inline float score_shaped_rarely(const ScoreRule& rule, float slope, float product,
                                                         int key, int query) {
  return shaped_score(rule, slope, product, key, query);
}

__device__ __forceinline__ float slope_of(const ScoreRule& rule, int head) {
  return rule.slopes ? rule.slopes[head] : 0.0f;
}

// First position that a token at `position` sees.
__device__ __forceinline__ int first_seen(const ScoreRule& rule, int position) {
  return max(0, position + 1 - rule.window);
}

// 2^x; 0 where that is no normal number.
__device__ __forceinline__ float power_of_2(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// What sums with `from` as their largest score are multiplied by when that becomes `to`; sums of nothing stay
// nothing.
__device__ __forceinline__ float shrink_to(float from, float to) {
  return from == -INFINITY ? 0.0f : power_of_2(from - to);
}

}  // namespace qtool::cuda
