// The signed 8-bit "dynamic" codebook, to which double quantization rounds the absmax values of 4-bit blocks.
//
// Seven decades [10^-7, 10^-6) ... [0.1, 1), the decade k from the bottom divided into 2^k linear steps, each
// represented by its middle, with both signs; and 0 and 1 (Dettmers, "8-bit approximations for parallelism",
// 2015). bitsandbytes computes it with torch, in float32; the table here has the same bits, as
// nested_quant_map needs.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace qtool {

extern const std::array<float, 256> kDynamicMap;  // ascending; [127] is 0, [255] is 1

// Value k ends at threshold k: a scaled value p has the code that equals the number of thresholds < p. So the
// code is that of the nearest value; a tie goes to the even code, as the bisection in bitsandbytes' CUDA
// kernel makes it.
extern const std::array<float, 256> kDynamicThresholds;  // the last is infinity: nothing is beyond code 255

// The codes of scaled values; NaN becomes code 0. codes [n]
void dynamic_codes_of(std::span<const float> scaled, std::uint8_t* codes);

}  // namespace qtool
