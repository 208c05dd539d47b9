// What the values of a tensor look like.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/quant/weight.h"
#include "core/tensor.h"
#include "formats/checkpoint.h"

namespace qtool {

// Over finite values, but for the counts. min and max are 0 where there is none.
struct TensorStats {
  std::int64_t count = 0;
  std::int64_t nan = 0;
  std::int64_t infinite = 0;
  std::int64_t zeros = 0;
  double min = 0, max = 0, mean = 0, rms = 0;

  double absmax() const;
};

// Equal bins from the least to the greatest finite value.
struct Histogram {
  double low = 0, high = 0;
  std::vector<std::int64_t> counts;
};

// A tensor's values as a stream of doubles: from a checkpoint, whatever the dtype, or from memory.
class ValueStream {
 public:
  ValueStream(const Checkpoint& checkpoint, const StoredTensor& tensor);
  explicit ValueStream(const TensorView& values);

  // Up to about a million more values; empty at the end.
  std::span<const double> next();
  void rewind() { done_ = 0; }

 private:
  const Checkpoint* checkpoint_ = nullptr;
  const StoredTensor* tensor_ = nullptr;
  TensorView view_;  // of a checkpoint's tensor only dtype and shape are set
  std::int64_t done_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<float> floats_;
  std::vector<double> values_;
};

TensorStats stats_of(ValueStream values);
Histogram histogram_of(ValueStream values, const TensorStats& stats, int bins);

// How often each code occurs: 16 of 4-bit weights; 256 of LLM.int8, -128 first; none of plain values.
std::vector<std::int64_t> code_counts(const Weight& weight);

// NaNs and infinities of a float tensor, counted by bits.
struct NonFinite {
  std::int64_t nan = 0;
  std::int64_t infinite = 0;
  std::int64_t first = -1;  // index of the first, into the flattened tensor

  bool any() const { return first >= 0; }
  std::string sentence() const;  // "1 NaN and 0 infinite values, the first at index 17"
};
NonFinite non_finite(const TensorView& values);
NonFinite non_finite(const Checkpoint& checkpoint, const StoredTensor& tensor);

}  // namespace qtool
