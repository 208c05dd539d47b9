// Quantization kernels of one instruction set.
//
// Files that are compiled for a newer instruction set than the rest of the program include nothing of the
// program but plain declarations like these: the linker keeps only one copy of an inline function, and it may
// be theirs.
#pragma once

#include <cstdint>

namespace qtool {

// Element types that can be quantized; an index into the tables below.
enum QuantizeSource { kFromF32, kFromF16, kFromBF16, kQuantizeSources };

struct QuantizeKernels {
  // Up to 16 whole blocks.
  //   values [blocks * block_size], packed [blocks * block_size / 2], absmax [blocks]
  // Returns a bit for each block that it has not quantized because of what is special there (zeros, NaN,
  // infinities, magnitudes near the ends of float32's range); the reference does these.
  using Block4 = std::uint32_t (*)(const void* values, int blocks, int block_size, std::uint8_t* packed,
                                   float* absmax);

  // One row: codes [count]. Returns false, having done nothing, for a row with something special, as above.
  using Int8Row = bool (*)(const void* values, std::int64_t count, std::int8_t* codes, float* absmax);

  Block4 nf4[kQuantizeSources];
  Block4 fp4[kQuantizeSources];
  Int8Row int8_row[kQuantizeSources];
};

inline constexpr int kMaxKernelBlocks = 16;

extern const QuantizeKernels kQuantizeAvx2;
extern const QuantizeKernels kQuantizeAvx512;

}  // namespace qtool
