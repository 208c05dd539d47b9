#include "cuda/step_inputs.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace qtool::cuda {
namespace {

constexpr std::int64_t kShortest = 256;  // of the lengths that kernels are laid out for
constexpr std::size_t kRoom = 1024;      // elements allocated at least: a decode step never moves a buffer

}  // namespace

template <typename T>
void StepInputs::upload(Mirror<T>& mirror, std::vector<T>&& values) {
  const bool same = values.size() == mirror.host.size() &&
                    std::memcmp(values.data(), mirror.host.data(), values.size() * sizeof(T)) == 0;
  if (same) return;
  mirror.host = std::move(values);
  const auto bytes = static_cast<std::int64_t>(std::max(mirror.host.size(), kRoom) * sizeof(T));
  mirror.buffer.reserve(bytes);
  check(cudaMemcpyAsync(mirror.buffer.template as<void>(), mirror.host.data(), mirror.host.size() * sizeof(T),
                        cudaMemcpyHostToDevice, stream_),
        "uploading a step's inputs");
}

void StepInputs::set_ids(std::span<const std::int32_t> ids) { upload(ids_, {ids.begin(), ids.end()}); }

void StepInputs::set_rows(std::span<const std::int64_t> rows) { upload(rows_, {rows.begin(), rows.end()}); }

void StepInputs::set_weights(std::span<const float> weights) {
  upload(weights_, {weights.begin(), weights.end()});
}

void StepInputs::set_segments(std::span<const Segment> segments) {
  std::vector<Place2> places;
  std::vector<QueryTile> tiles;
  std::int64_t longest = kShortest;
  for (const Segment& segment : segments) {
    const auto row = static_cast<int>(places.size());
    for (std::int64_t t = 0; t < segment.tokens; ++t)
      places.push_back({segment.sequence, static_cast<int>(segment.position + t)});
    for (int t = 0; t < segment.tokens; t += kQueryTile)
      tiles.push_back({row + t, static_cast<int>(std::min<std::int64_t>(kQueryTile, segment.tokens - t)),
                       segment.sequence, static_cast<int>(segment.position) + t});
    longest = std::max(longest, segment.position + segment.tokens);
  }
  longest_ = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(longest)));
  upload(places_, std::move(places));
  upload(tiles_, std::move(tiles));
}

}  // namespace qtool::cuda
