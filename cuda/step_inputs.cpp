#include "cuda/step_inputs.h"

#include <algorithm>
#include <cstring>

namespace qtool::cuda {
namespace {

// Of the lengths that kernels are laid out for; the next is so many times longer. Splits share what there
// is, so a layout for more than that costs little, and a step recorded anew costs a lot.
constexpr std::int64_t kShortest = 256;
constexpr std::int64_t kLonger = 4;
constexpr std::size_t kRoom = 1024;  // elements allocated at least: a decode step never moves a buffer

bool all_different(const std::vector<Place2>& places) {
  std::vector<int> sequences;
  for (const Place2& place : places) sequences.push_back(place.sequence);
  std::ranges::sort(sequences);
  return std::ranges::adjacent_find(sequences) == sequences.end();
}

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
  std::int64_t longest = 0;
  for (const Segment& segment : segments) {
    const auto row = static_cast<int>(places.size());
    for (std::int64_t t = 0; t < segment.tokens; ++t)
      places.push_back({segment.sequence, static_cast<int>(segment.position + t)});
    for (int t = 0; t < segment.tokens; t += kQueryTile)
      tiles.push_back({row + t, static_cast<int>(std::min<std::int64_t>(kQueryTile, segment.tokens - t)),
                       segment.sequence, static_cast<int>(segment.position) + t});
    longest = std::max(longest, segment.position + segment.tokens);
  }
  longest_ = kShortest;
  while (longest_ < longest) longest_ *= kLonger;
  tile_count_ = static_cast<std::int64_t>(tiles.size());
  one_token_each_ = tiles.size() == places.size() && all_different(places);
  upload(places_, std::move(places));
  if (!one_token_each_) upload(tiles_, std::move(tiles));  // of use to many tokens
}

}  // namespace qtool::cuda
