// What Hopper's copy engine is told of a tensor in device memory.
#pragma once

#include <cstdint>
#include <cuda.h>
#include <span>

namespace qtool::cuda {

// Whether the driver can describe tensors; it can from CUDA 12 on.
bool has_tensor_maps();

// A tensor of elements of `element_bytes` (1 or 2) with packed rows of a multiple of 16 bytes, and the boxes
// in which it is copied: sizes innermost first, 2 to 5 of them. A box's rows have at most 128 bytes, whose
// 16-byte pieces are exchanged in shared memory (see operand_at() in hopper.cuh); what lies outside the
// tensor is 0.
CUtensorMap tensor_map(const void* data, int element_bytes, std::span<const std::int64_t> sizes,
                       std::span<const int> box);

}  // namespace qtool::cuda
