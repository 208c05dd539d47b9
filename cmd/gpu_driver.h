// NVIDIA's driver and libraries, asked through the files they consist of: a qtool that was built without CUDA
// can tell, too, what the machine has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qtool {

struct GpuDevice {
  std::string name;
  std::string uuid;    // "GPU-8f4d2a10-...", as nvidia-smi prints it
  int capability = 0;  // 90 for compute capability 9.0
  std::int64_t memory_bytes = 0;
};

struct GpuDriver {
  std::optional<std::string>
      cuda_version;                // the newest CUDA that the driver runs, "13.0"; nothing: no driver
  std::string failure;             // of a driver that does not start, in its own word
  std::vector<GpuDevice> devices;  // that CUDA_VISIBLE_DEVICES leaves
};

GpuDriver gpu_driver();

// The file name under which the loader finds cuBLASLt; nothing if it does not.
std::optional<std::string> cublaslt_library();

// Whether machine code for `architectures` ("75,80,90a") runs on a device: code for 8.0 is
// carried along as PTX, which newer devices translate; code for 9.0a is for that device alone.
bool runs_on(const std::string& architectures, int capability);

}  // namespace qtool
