// Arithmetic of dividing a tensor into blocks.
#pragma once

#include <cstdint>

namespace qtool {

// ceil(a / b) for a >= 0, b > 0.
constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Errors: kUnsupported unless bitsandbytes takes 4-bit blocks of this size (kBlockSizes4).
void check_block_size4(int block_size);

}  // namespace qtool
