// What changes from step to step, at fixed addresses in device memory: token
// ids and where each token stands. A recorded step is replayed on new inputs by
// writing them here.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>
#include <span>
#include <vector>

#include "core/model/backend.h"
#include "cuda/attention.h"
#include "cuda/raii.h"

namespace qtool::cuda {

class StepInputs {
 public:
  explicit StepInputs(cudaStream_t stream) : stream_(stream) {}

  // Each uploads what differs from what is there.
  void set_ids(std::span<const std::int32_t> ids);
  void set_segments(std::span<const Segment> segments);
  void set_rows(std::span<const std::int64_t> rows);
  void set_weights(std::span<const float> weights);  // of rows

  const std::int32_t* ids() const { return ids_.buffer.as<std::int32_t>(); }
  const Place2* places() const { return places_.buffer.as<Place2>(); }
  const QueryTile* tiles() const { return tiles_.buffer.as<QueryTile>(); }
  const std::int64_t* rows() const { return rows_.buffer.as<std::int64_t>(); }
  const float* weights() const { return weights_.buffer.as<float>(); }
  std::int64_t tokens() const { return static_cast<std::int64_t>(places_.host.size()); }
  std::int64_t tile_count() const { return tile_count_; }
  // Whether each token is the only one of its sequence: a decode step.
  bool one_token_each() const { return one_token_each_; }
  // At least the length of the longest sequence of the step, one of a few lengths: kernels are laid out for
  // it, so a recorded step stays good until the next of them.
  std::int64_t longest() const { return longest_; }

 private:
  template <typename T>
  struct Mirror {
    std::vector<T> host;
    Buffer buffer;
  };
  template <typename T>
  void upload(Mirror<T>& mirror, std::vector<T>&& values);

  cudaStream_t stream_;
  Mirror<std::int32_t> ids_;
  Mirror<Place2> places_;
  Mirror<QueryTile> tiles_;
  Mirror<std::int64_t> rows_;
  Mirror<float> weights_;
  std::int64_t tile_count_ = 0;
  std::int64_t longest_ = 0;
  bool one_token_each_ = false;
};

}  // namespace qtool::cuda
