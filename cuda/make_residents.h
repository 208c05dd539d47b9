// From values in host memory to the GPU's own kinds of Backend::Resident. All wait until the copy is done.
#pragma once

#include <memory>
#include <optional>

#include "core/quant/weight.h"
#include "core/tensor.h"
#include "cuda/device.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// Copies host memory to the device. Errors: kDevice.
void send(void* to, const void* from, std::int64_t bytes, const Stream& stream);

// As Backend::make_linear, make_table, make_tied_head and make_cache say. Errors: kUnsupported for other
// types than F32, F16 and BF16, and for sizes that no kernel takes; kMemory.
std::unique_ptr<CudaLinear> make_cuda_linear(const Weight& weight, const std::optional<Tensor>& bias,
                                             DType compute, const Device& device, const Stream& stream);
std::unique_ptr<CudaTable> make_cuda_table(const Tensor& values, const Stream& stream);
std::unique_ptr<CudaLinear> make_cuda_tied_head(const CudaTable& embedding, DType compute);
std::unique_ptr<CudaCache> make_cuda_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                           int head_dim, DType dtype);

}  // namespace qtool::cuda
