// qtool without CUDA: the absence of a backend is this file.
#include "core/error.h"
#include "cuda/cuda_backend.h"

namespace qtool {

int cuda_device_count() { return 0; }

std::string cuda_absence() {
  return "this qtool has no GPU backend; use --device cpu (the default without "
         "a GPU)";
}

std::unique_ptr<Backend> make_cuda_backend(int) { throw Error(ExitCode::kDevice, cuda_absence()); }
std::unique_ptr<Quantizer> make_cuda_quantizer(int) { throw Error(ExitCode::kDevice, cuda_absence()); }
DeviceCeilings measure_cuda_ceilings() { throw Error(ExitCode::kDevice, cuda_absence()); }

}  // namespace qtool
