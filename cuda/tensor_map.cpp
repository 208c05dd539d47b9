#include "cuda/tensor_map.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "core/error.h"

namespace qtool::cuda {
namespace {

constexpr std::size_t kMostDimensions = 5;

// The driver's function, found at run time: a machine without a driver still runs qtool.
using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
Encode encoder() {
  static const Encode found = [] {
    constexpr unsigned kVersion = 12000;  // of CUDA, that brought it
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kVersion,
                                                                cudaEnableDefault, &result);
    return status == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function)
                                                                          : nullptr;
  }();
  return found;
}

}  // namespace

bool has_tensor_maps() { return encoder() != nullptr; }

CUtensorMap tensor_map(const void* data, int element_bytes, std::span<const std::int64_t> sizes,
                       std::span<const int> box) {
  if (sizes.size() != box.size() || sizes.size() < 2 || sizes.size() > kMostDimensions)
    throw internal_error("a tensor map has two to five dimensions");
  std::array<cuuint64_t, kMostDimensions> counts{}, strides{};
  std::array<cuuint32_t, kMostDimensions> boxes{}, steps{};
  steps.fill(1);
  auto stride = static_cast<cuuint64_t>(element_bytes);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    counts[i] = static_cast<cuuint64_t>(sizes[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
    stride *= counts[i];
    strides[i] = stride;  // from one to the next of the dimension outside
  }
  CUtensorMap map;
  const CUresult status =
      encoder()(&map, element_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
                static_cast<cuuint32_t>(sizes.size()), const_cast<void*>(data), counts.data(), strides.data(),
                boxes.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) throw internal_error("the copy engine refused a tensor");
  return map;
}

}  // namespace qtool::cuda
