// torch's mean() of a contiguous float32 tensor on a CUDA device, bit for bit.
//
// Double quantization stores mean(absmax), and float addition is not associative: the order in which torch's
// reduction kernel adds decides the last bits of nested_offset, and through it a few codes.
#pragma once

#include <span>

namespace qtool {

// The GPU whose reduction is reproduced. It matters only beyond some four million values (a weight of 277
// million elements); the defaults are those of the H100.
struct ReductionGpu {
  int multiprocessors = 132;
  int threads_per_multiprocessor = 2048;
};

// The order is that of torch 2.10 and later. No values: NaN, as torch says.
float torch_cuda_mean(std::span<const float> values, const ReductionGpu& gpu = {});

}  // namespace qtool
