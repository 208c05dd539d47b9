// 4-bit weights as the tensor cores' kernels read them: tiles of 16 rows and 64
// columns, in the order of the lanes.
//
//   codes   [row tiles][2 * units][32 lanes][16 bytes]: lane 4g + t holds row
//   g, columns 8t..8t+7 in bytes 0-3 and
//           32+8t..32+8t+7 in bytes 4-7, then the same columns of row g + 8;
//           the even column in the high nibble
//   scales  kTiles4:  [row tiles][units][8][4 bytes]: nested codes of row g
//   (columns 0-63 and 64-127 of the unit), then
//           of row g + 8. kTiles4F: the same with float32.
//
// Rows beyond `out` and columns beyond `in` have scale 0 (kTiles4F) or meet
// inputs that are 0 (columns) or results that nobody stores (rows).
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/quant/weight.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// The form in which a weight that computes in `compute` lies on the device.
WeightForm form_of(const Block4Weight& weight, DType compute, int capability);

// Uploads and reorders `weight` into `linear`, whose shape, form and compute
// type are set. Waits for the device.
void upload_block4(const Block4Weight& weight, CudaLinear& linear, cudaStream_t stream);

// Rows [first, first + rows) as values of `type`, row-major [rows, in] at
// `out`: each value rounded once, as bitsandbytes dequantizes. Any 4-bit form;
// of tiles `first` begins one, and `type` has 16 bits.
void dequantize4(const CudaLinear& linear, std::int64_t first, std::int64_t rows, Values out,
                 cudaStream_t stream);

}  // namespace qtool::cuda
