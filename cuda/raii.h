// Owners of CUDA resources, and the one place where a CUDA error becomes an
// Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <string>
#include <utility>

namespace qtool::cuda {

// Throws Error(kDevice) with the device's name, `what` was being done and
// whether the device is lost; Error(kMemory) when memory ran out.
void check(cudaError_t status, const char* what);

// What errors call a device; told once it is known, because a device that is
// lost does not answer.
void name_device(int index, const std::string& name);

// For tests: the `number`-th of the calls checked and allocations made from now
// on (1: the next) ends in `status`, whatever it did; 0: none.
void fail_call(std::int64_t number, cudaError_t status);

// Bytes on the current device or pinned on the host; move-only, freed with the
// object.
enum class Place { kDevice, kPinnedHost };

class Buffer {
 public:
  Buffer() = default;
  // Errors: kMemory with what was needed and what was free.
  Buffer(Place place, std::int64_t bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  std::int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  // At least `bytes`; contents are lost when it grows.
  void reserve(std::int64_t bytes) {
    if (bytes > bytes_) *this = Buffer(place_, bytes);
  }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(place_, other.place_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Place place_ = Place::kDevice;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
  Stream(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }

  cudaStream_t get() const { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "waiting for the GPU"); }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace qtool::cuda
