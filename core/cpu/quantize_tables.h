// The codebooks' thresholds, arranged for vector search. Plain declarations only, see quantize_kernels.h.
#pragma once

#include <cstdint>

namespace qtool {

// A codebook cut into cells of width 1/15, narrower than the distance of any two thresholds, so that a cell
// holds one threshold at most. Cell k covers the scaled values that 15 * p rounds to k and is found at index
// k mod 32, which is what the low bits of a float become when 1.5 * 2^23 is added to it.
struct alignas(64) CellTable {
  float threshold[32];     // infinity in cells that have none
  std::int32_t below[32];  // code up to the threshold, threshold included
  std::int32_t above[32];  // code beyond it
};
extern const CellTable kNf4Cells;  // cells -15..15
extern const CellTable kFp4Cells;  // of |p|: cells 0..15

// The thresholds in the order of a binary search: level n has 2^n of them, from left to right.
struct alignas(64) SearchTree {
  float level0[8];
  float level1[8];
  float level2[8];
  float level3[8];
  std::int32_t code[8];  // by rank, where the tree has three levels
};
extern const SearchTree kNf4Tree;  // four levels; the rank is the code
extern const SearchTree kFp4Tree;  // of |p|: three levels

}  // namespace qtool
