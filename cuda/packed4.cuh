// 4-bit weights as filed, read by kernels: the scale of a block and the value
// of a code.
#pragma once

#include "core/quant/codebook.h"
#include "core/quant/nested.h"
#include "cuda/device_math.cuh"
#include "cuda/residents.h"

namespace qtool::cuda {

struct Packed4 {
  const std::uint8_t* codes;
  const void* scales;   // U8 [blocks] if nested, else F32 [blocks]
  const float* nested;  // F32 [ceil(blocks / 256)] or null
  const float* map;     // F32 [256]
  float offset;
  int block_size;
  float values[16];  // by code

  __device__ __forceinline__ float scale(std::int64_t block) const {
    if (!nested) return static_cast<const float*>(scales)[block];
    const int code = static_cast<const std::uint8_t*>(scales)[block];
    return __fadd_rn(mul_ftz(map[code], nested[block / 256]), offset);
  }
};

inline Packed4 packed4_of(const CudaLinear& linear) {
  Packed4 packed{linear.codes.as<std::uint8_t>(),
                 linear.scales.as<void>(),
                 linear.nested.bytes() > 0 ? linear.nested.as<float>() : nullptr,
                 linear.map.as<float>(),
                 linear.offset,
                 linear.block_size,
                 {}};
  for (int code = 0; code < 16; ++code) packed.values[code] = decoded(codebook(linear.code), code);
  return packed;
}

}  // namespace qtool::cuda
