// The 4-bit codebooks NF4 and FP4: what a code stands for, and where one code ends and the next begins.
//
// A block's values are scaled into [-1, 1] by the reciprocal of its absmax; each scaled value p becomes the
// 4-bit code whose interval holds it. Two different tables describe this, and neither follows from the other:
//
//   values      what a code is decoded to. NF4: quantiles of a normal distribution (Dettmers et al., "QLoRA",
//               2023). FP4: sign, two exponent bits, one mantissa bit, divided by 12.
//   thresholds  the constants that bitsandbytes' CUDA kernels compare p with. Some differ from the midpoint
//               of the neighbouring values by a unit in the last place, so they are written here as the bit
//               patterns found in the compiled kernels; rounding their decimal spelling in the source by way
//               of double gives other floats.
//
// Single source for the reference, the CPU kernels and the GPU kernels: constexpr, no dependence on the host.
#pragma once

#include <bit>
#include <cstdint>

#include "core/quant/spec.h"

namespace qtool {

struct Codebook4 {
  float values[16];     // by code, as filed in quant_map
  int threshold_count;  // 15, or 7 when the sign is a bit of its own
  // Ascending. The rank of p is the number of thresholds < p, so a tie takes the lower rank.
  float thresholds[15];
  std::uint8_t codes[16];  // by rank
  bool signed_magnitude;   // rank |p| instead of p; bit 3 of the code is set when p < 0
};

namespace codebook_detail {
constexpr float f(std::uint32_t bits) { return std::bit_cast<float>(bits); }
}  // namespace codebook_detail

inline constexpr Codebook4 kNf4Codebook = [] {
  using codebook_detail::f;
  return Codebook4{{f(0xbf800000), f(0xbf3239b1), f(0xbf066b30), f(0xbeca32a0), f(0xbe91a24d), f(0xbe3d353f),
                    f(0xbdba7871), 0.0f, f(0x3da2faff), f(0x3e24cae3), f(0x3e7c04dd), f(0x3ead033a),
                    f(0x3ee1a4b8), f(0x3f1007ab), f(0x3f3913b3), f(0x3f800000)},
                   15,
                   {f(0xbf591cd9), f(0xbf1c5270), f(0xbeeb8480), f(0xbeadea76), f(0xbe703cec), f(0xbe0d38bc),
                    f(0xbd3a7871), f(0x3d22faff), f(0x3df64863), f(0x3e5067e0), f(0x3e9582d4), f(0x3ec753f9),
                    f(0x3f006d03), f(0x3f248daf), f(0x3f5c89d9)},
                   {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                   false};
}();

inline constexpr Codebook4 kFp4Codebook = [] {
  using codebook_detail::f;
  return Codebook4{
      // Code 8 is filed as +0 (an integer literal in bitsandbytes' source) although it decodes to -0.
      {0.0f, f(0x3baaaaab), f(0x3f2aaaab), f(0x3f800000), f(0x3eaaaaab), f(0x3f000000), f(0x3e2aaaab),
       f(0x3e800000), 0.0f, f(0xbbaaaaab), f(0xbf2aaaab), f(0xbf800000), f(0xbeaaaaab), f(0xbf000000),
       f(0xbe2aaaab), f(0xbe800000)},
      7,
      {f(0x3b2aaab9), f(0x3db00000), f(0x3e555555), f(0x3e955555), f(0x3ed55556), f(0x3f155550),
       f(0x3f555555)},
      {0, 1, 6, 7, 4, 5, 2, 3},
      true};
}();

constexpr const Codebook4& codebook(Code4 code) { return code == Code4::kNf4 ? kNf4Codebook : kFp4Codebook; }

// The code of a scaled value; NaN, which no threshold is below, becomes code 0 as in the kernels.
constexpr int code_of(const Codebook4& book, float scaled) {
  const float ranked = book.signed_magnitude && scaled < 0.0f ? -scaled : scaled;
  int rank = 0;
  for (int i = 0; i < book.threshold_count; ++i) rank += book.thresholds[i] < ranked ? 1 : 0;
  return book.codes[rank] | (book.signed_magnitude && scaled < 0.0f ? 8 : 0);
}

// What a code decodes to before it is multiplied by absmax.
constexpr float decoded(const Codebook4& book, int code) {
  return book.signed_magnitude && code == 8 ? -0.0f : book.values[code];
}

}  // namespace qtool
