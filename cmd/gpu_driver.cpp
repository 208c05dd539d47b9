#include "cmd/gpu_driver.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <type_traits>

namespace qtool {
namespace {

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};
using Library = std::unique_ptr<void, CloseLibrary>;

// The functions of the driver's interface that are needed; types as NVIDIA documents them.
struct Functions {
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*device)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*uuid)(unsigned char*, int) = nullptr;
  int (*memory)(std::size_t*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*error)(int, const char**) = nullptr;

  bool find(void* library) {
    const auto one = [library](auto& function, const char* symbol) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    return one(init, "cuInit") && one(version, "cuDriverGetVersion") && one(count, "cuDeviceGetCount") &&
           one(device, "cuDeviceGet") && one(name, "cuDeviceGetName") && one(uuid, "cuDeviceGetUuid") &&
           one(memory, "cuDeviceTotalMem_v2") && one(attribute, "cuDeviceGetAttribute") &&
           one(error, "cuGetErrorName");
  }
};

constexpr int kNoDevice = 100;        // of CUresult: the driver is well, but shows no GPU
constexpr int kCapabilityMajor = 75;  // of CUdevice_attribute
constexpr int kCapabilityMinor = 76;

std::string text_of_uuid(const unsigned char (&bytes)[16]) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", bytes[i]);
    text += (i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "") + std::string(two);
  }
  return text;
}

GpuDevice device_of(const Functions& driver, int index) {
  GpuDevice found;
  int handle = 0;
  if (driver.device(&handle, index) != 0) return found;
  char name[256] = "";
  unsigned char uuid[16] = {};
  std::size_t bytes = 0;
  int major = 0, minor = 0;
  driver.name(name, sizeof name, handle);
  driver.uuid(uuid, handle);
  driver.memory(&bytes, handle);
  driver.attribute(&major, kCapabilityMajor, handle);
  driver.attribute(&minor, kCapabilityMinor, handle);
  found.name = name;
  found.uuid = text_of_uuid(uuid);
  found.capability = 10 * major + minor;
  found.memory_bytes = static_cast<std::int64_t>(bytes);
  return found;
}

}  // namespace

GpuDriver gpu_driver() {
  GpuDriver found;
  const Library library(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
  Functions driver;
  if (!library || !driver.find(library.get())) return found;
  int version = 0;
  driver.version(&version);
  found.cuda_version = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  const int code = driver.init(0);
  if (code == kNoDevice) return found;
  if (code != 0) {
    const char* word = nullptr;
    found.failure = driver.error(code, &word) == 0 && word != nullptr ? word : std::to_string(code);
    return found;
  }
  int count = 0;
  driver.count(&count);
  for (int i = 0; i < count; ++i) found.devices.push_back(device_of(driver, i));
  return found;
}

std::optional<std::string> cublaslt_library() {
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
    // Stays loaded: its C++ runtime gives nothing back when it is unloaded.
    if (dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE)) return name;
  return std::nullopt;
}

bool runs_on(const std::string& architectures, int capability) {
  for (std::size_t at = 0; at < architectures.size();) {
    const std::size_t end = std::min(architectures.find(',', at), architectures.size());
    const char* const last = architectures.data() + end;
    int number = 0;
    const auto [rest, failure] = std::from_chars(architectures.data() + at, last, number);
    if (failure == std::errc() && (number == capability || (rest == last && number < capability)))
      return true;
    at = end + 1;
  }
  return false;
}

}  // namespace qtool
