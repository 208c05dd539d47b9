// The GPU, as the rest of qtool may know it. Built without CUDA, the same functions answer with one sentence.
#pragma once

#include <memory>
#include <string>

#include "core/model/backend.h"
#include "core/quant/quantizer.h"

namespace qtool {

// Number of usable GPUs; 0 without a driver, without a device, or when qtool was built without CUDA.
int cuda_device_count();

// Why there is none, in one sentence.
std::string cuda_absence();

// Errors: kDevice with cuda_absence()'s sentence.
std::unique_ptr<Backend> make_cuda_backend(int device);
std::unique_ptr<Quantizer> make_cuda_quantizer(int device);

}  // namespace qtool
