// The GPU, as the rest of qtool may know it. Built without CUDA, the same
// functions answer with one sentence.
#pragma once

#include <memory>
#include <string>

#include "core/model/backend.h"
#include "core/quant/quantizer.h"

namespace qtool {

// Number of usable GPUs; 0 without a driver, without a device, or when qtool
// was built without CUDA.
int cuda_device_count();

// Why there is none, in one sentence.
std::string cuda_absence();

// Errors: kDevice with cuda_absence()'s sentence.
std::unique_ptr<Backend> make_cuda_backend(int device);
std::unique_ptr<Quantizer> make_cuda_quantizer(int device);

// What the current device can do at most, measured: a figure means little
// without it.
struct DeviceCeilings {
  double read_gb_per_s = 0.0;
  double copy_gb_per_s = 0.0;     // bytes read plus bytes written
  double bf16_tflop_per_s = 0.0;  // a product of 8192 x 8192 matrices; 0 without cuBLASLt
  double int8_tops = 0.0;
};
DeviceCeilings measure_cuda_ceilings();

}  // namespace qtool
