// The Quantizer interface on the GPU. Calls come from many threads with host
// memory; each borrows a lane (a stream with its own staging buffers), so that
// copies to the GPU, kernels and copies back of different calls overlap.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/quantizer.h"
#include "cuda/cuda_backend.h"
#include "cuda/kernels.h"
#include "cuda/raii.h"

namespace qtool {

namespace {

using cuda::Buffer;
using cuda::Place;

// One call's resources. Buffers only grow, so a run settles after its largest
// piece.
struct Lane {
  cuda::Stream stream;
  Buffer host_in{Place::kPinnedHost, 0}, host_out{Place::kPinnedHost, 0};
  Buffer device_in{Place::kDevice, 0}, device_out{Place::kDevice, 0};

  // `bytes` at `data` to the device. Pageable memory goes through the pinned
  // buffer: a plain copy by the CPU, then one by the GPU's copy engine at full
  // rate.
  void send(const void* data, std::int64_t bytes) {
    host_in.reserve(bytes);
    device_in.reserve(bytes);
    std::memcpy(host_in.as<void>(), data, static_cast<std::size_t>(bytes));
    cuda::check(cudaMemcpyAsync(device_in.as<void>(), host_in.as<void>(), static_cast<std::size_t>(bytes),
                                cudaMemcpyHostToDevice, stream.get()),
                "copying values to the GPU");
  }
  // The first `bytes` of device_out to host_out; they are there when it
  // returns.
  void fetch(std::int64_t bytes) {
    host_out.reserve(bytes);
    cuda::check(cudaMemcpyAsync(host_out.as<void>(), device_out.as<void>(), static_cast<std::size_t>(bytes),
                                cudaMemcpyDeviceToHost, stream.get()),
                "copying codes from the GPU");
    stream.wait();
  }
};

// Offsets of pieces that share one buffer, each aligned for any vector access.
class Slots {
 public:
  std::int64_t take(std::int64_t bytes) {
    const std::int64_t at = total_;
    total_ += (bytes + 255) / 256 * 256;
    return at;
  }
  std::int64_t total() const { return total_; }

 private:
  std::int64_t total_ = 0;
};

class CudaQuantizer final : public Quantizer {
 public:
  explicit CudaQuantizer(int device) : device_(device) {
    cuda::check(cudaSetDevice(device), "selecting the device");
    cudaDeviceProp properties;
    cuda::check(cudaGetDeviceProperties(&properties, device), "asking for the device's properties");
    cuda::name_device(device, properties.name);
    cuda::upload_codebooks();

    std::array<float, 256> thresholds;
    std::copy(kDynamicThresholds.begin(), kDynamicThresholds.end(), thresholds.begin());
    thresholds.back() = INFINITY;
    thresholds_ = Buffer(Place::kDevice, sizeof thresholds);
    cuda::check(
        cudaMemcpy(thresholds_.as<void>(), thresholds.data(), sizeof thresholds, cudaMemcpyHostToDevice),
        "uploading the dynamic map");
  }

  void block4(const TensorView& values, Code4 code, int block_size, std::span<std::uint8_t> packed,
              std::span<float> absmax) const override {
    if (values.count() == 0) return;
    const Borrowed lane(*this);
    Slots slots;
    const auto packed_bytes = static_cast<std::int64_t>(packed.size());
    const auto absmax_bytes = static_cast<std::int64_t>(absmax.size_bytes());
    const std::int64_t absmax_at = slots.take(absmax_bytes), packed_at = slots.take(packed_bytes);
    lane->device_out.reserve(slots.total());
    lane->send(values.data, values.bytes());
    auto* out = lane->device_out.as<std::byte>();
    cuda::launch_block4({.values = lane->device_in.as<void>(),
                         .dtype = values.dtype,
                         .count = values.count(),
                         .code = code,
                         .block_size = block_size,
                         .packed = reinterpret_cast<std::uint8_t*>(out + packed_at),
                         .absmax = reinterpret_cast<float*>(out + absmax_at)},
                        lane->stream.get());
    lane->fetch(packed_at + packed_bytes);
    std::memcpy(absmax.data(), lane->host_out.as<std::byte>() + absmax_at, absmax.size_bytes());
    std::memcpy(packed.data(), lane->host_out.as<std::byte>() + packed_at, packed.size_bytes());
  }

  float nest(std::span<const float> absmax, std::span<std::uint8_t> codes,
             std::span<float> nested_absmax) const override {
    const auto count = static_cast<std::int64_t>(absmax.size());
    const Borrowed lane(*this);
    Slots slots;
    const std::int64_t mean_at = slots.take(sizeof(float));
    const std::int64_t nested_at = slots.take(static_cast<std::int64_t>(nested_absmax.size_bytes()));
    const std::int64_t codes_at = slots.take(count);
    const std::int64_t workspace_at = slots.take(cuda::nest_workspace_floats(count) * 4);
    lane->device_out.reserve(slots.total());
    lane->send(absmax.data(), count * 4);
    auto* out = lane->device_out.as<std::byte>();
    cuda::launch_nest({.absmax = lane->device_in.as<float>(),
                       .count = count,
                       .thresholds = thresholds_.as<float>(),
                       .workspace = reinterpret_cast<float*>(out + workspace_at),
                       .mean = reinterpret_cast<float*>(out + mean_at),
                       .codes = reinterpret_cast<std::uint8_t*>(out + codes_at),
                       .nested_absmax = reinterpret_cast<float*>(out + nested_at)},
                      lane->stream.get());
    lane->fetch(codes_at + count);
    const auto* host = lane->host_out.as<std::byte>();
    std::memcpy(nested_absmax.data(), host + nested_at, nested_absmax.size_bytes());
    std::memcpy(codes.data(), host + codes_at, codes.size_bytes());
    float mean = 0.0f;
    std::memcpy(&mean, host + mean_at, sizeof mean);
    return mean;
  }

  void int8_rows(const TensorView& values, std::span<std::int8_t> codes,
                 std::span<float> row_absmax) const override {
    if (values.count() == 0) return;
    const Borrowed lane(*this);
    const auto rows = static_cast<std::int64_t>(row_absmax.size());
    Slots slots;
    const std::int64_t absmax_at = slots.take(rows * 4), codes_at = slots.take(values.count());
    lane->device_out.reserve(slots.total());
    lane->send(values.data, values.bytes());
    auto* out = lane->device_out.as<std::byte>();
    cuda::launch_int8({.values = lane->device_in.as<void>(),
                       .dtype = values.dtype,
                       .rows = rows,
                       .columns = values.count() / rows,
                       .codes = reinterpret_cast<std::int8_t*>(out + codes_at),
                       .row_absmax = reinterpret_cast<float*>(out + absmax_at)},
                      lane->stream.get());
    lane->fetch(codes_at + values.count());
    std::memcpy(row_absmax.data(), lane->host_out.as<std::byte>() + absmax_at, row_absmax.size_bytes());
    std::memcpy(codes.data(), lane->host_out.as<std::byte>() + codes_at, codes.size_bytes());
  }

 private:
  // A lane out of the pool for the length of one call.
  class Borrowed {
   public:
    explicit Borrowed(const CudaQuantizer& quantizer) : quantizer_(quantizer) {
      cuda::check(cudaSetDevice(quantizer.device_),
                  "selecting the device");  // the current device is a thread's own
      const std::lock_guard lock(quantizer.mutex_);
      if (quantizer.idle_.empty()) {
        lane_ = std::make_unique<Lane>();
        quantizer.idle_.reserve(++quantizer.lanes_);  // it can come back without memory
      } else {
        lane_ = std::move(quantizer.idle_.back());
        quantizer.idle_.pop_back();
      }
    }
    Borrowed(const Borrowed&) = delete;
    ~Borrowed() {
      const std::lock_guard lock(quantizer_.mutex_);
      quantizer_.idle_.push_back(std::move(lane_));
    }
    Lane* operator->() const { return lane_.get(); }

   private:
    const CudaQuantizer& quantizer_;
    std::unique_ptr<Lane> lane_;
  };

  int device_;
  Buffer thresholds_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Lane>> idle_;
  mutable std::size_t lanes_ = 0;
};

}  // namespace

std::unique_ptr<Quantizer> make_cuda_quantizer(int device) {
  if (device >= cuda_device_count()) throw Error(ExitCode::kDevice, cuda_absence());
  return std::make_unique<CudaQuantizer>(device);
}

}  // namespace qtool
