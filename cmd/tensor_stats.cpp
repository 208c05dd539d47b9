#include "cmd/tensor_stats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "core/interrupt.h"

namespace qtool {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 20;  // values

template <typename T>
void widen(const std::byte* data, std::int64_t count, double* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, data + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    out[i] = static_cast<double>(value);
  }
}

// Exponent all ones: NaN with a mantissa, infinite without.
template <typename Bits>
NonFinite count_bits(const std::byte* data, std::int64_t count, Bits exponent, Bits mantissa) {
  NonFinite found;
  for (std::int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    const bool special = (bits & exponent) == exponent;
    found.nan += special && (bits & mantissa) != 0;
    found.infinite += special && (bits & mantissa) == 0;
    if (special && found.first < 0) found.first = i;
  }
  return found;
}

}  // namespace

std::string NonFinite::sentence() const {
  return std::to_string(nan) + " NaN and " + std::to_string(infinite) +
         " infinite values, the first at index " + std::to_string(first);
}

double TensorStats::absmax() const { return std::max(std::abs(min), std::abs(max)); }

ValueStream::ValueStream(const Checkpoint& checkpoint, const StoredTensor& tensor)
    : checkpoint_(&checkpoint), tensor_(&tensor), view_{nullptr, tensor.info.dtype, tensor.info.shape} {}

ValueStream::ValueStream(const TensorView& values) : view_(values) {}

std::span<const double> ValueStream::next() {
  stop_if_interrupted();
  const std::int64_t count = std::min(kChunk, view_.count() - done_);
  if (count <= 0) return {};
  const std::int64_t size = size_of(view_.dtype);
  const std::byte* data = nullptr;
  if (checkpoint_ != nullptr) {
    bytes_.resize(static_cast<std::size_t>(count * size));
    checkpoint_->read(*tensor_, done_ * size, bytes_);
    data = bytes_.data();
  } else {
    data = view_.data + done_ * size;
  }
  done_ += count;
  values_.resize(static_cast<std::size_t>(count));
  double* const out = values_.data();
  switch (view_.dtype) {
    case DType::kF64:
      widen<double>(data, count, out);
      break;
    case DType::kF32:
      widen<float>(data, count, out);
      break;
    case DType::kF16:
    case DType::kBF16:
      floats_.resize(values_.size());
      to_float32(data, view_.dtype, count, floats_.data());
      std::copy(floats_.begin(), floats_.end(), out);
      break;
    case DType::kI64:
      widen<std::int64_t>(data, count, out);
      break;
    case DType::kI32:
      widen<std::int32_t>(data, count, out);
      break;
    case DType::kI16:
      widen<std::int16_t>(data, count, out);
      break;
    case DType::kI8:
      widen<std::int8_t>(data, count, out);
      break;
    case DType::kU64:
      widen<std::uint64_t>(data, count, out);
      break;
    case DType::kU32:
      widen<std::uint32_t>(data, count, out);
      break;
    case DType::kU16:
      widen<std::uint16_t>(data, count, out);
      break;
    case DType::kU8:
    case DType::kBool:
      widen<std::uint8_t>(data, count, out);
      break;
  }
  return values_;
}

TensorStats stats_of(ValueStream values) {
  TensorStats stats;
  double sum = 0;
  double squares = 0;
  std::int64_t finite = 0;
  for (auto chunk = values.next(); !chunk.empty(); chunk = values.next()) {
    stats.count += static_cast<std::int64_t>(chunk.size());
    for (const double value : chunk) {
      if (!std::isfinite(value)) {
        ++(std::isnan(value) ? stats.nan : stats.infinite);
        continue;
      }
      stats.min = finite == 0 ? value : std::min(stats.min, value);
      stats.max = finite == 0 ? value : std::max(stats.max, value);
      stats.zeros += value == 0;
      sum += value;
      squares += value * value;
      ++finite;
    }
  }
  if (finite > 0) {
    stats.mean = sum / static_cast<double>(finite);
    stats.rms = std::sqrt(squares / static_cast<double>(finite));
  }
  return stats;
}

Histogram histogram_of(ValueStream values, const TensorStats& stats, int bins) {
  Histogram histogram{stats.min, stats.max, std::vector<std::int64_t>(static_cast<std::size_t>(bins), 0)};
  const double width = (stats.max - stats.min) / bins;
  for (auto chunk = values.next(); !chunk.empty(); chunk = values.next())
    for (const double value : chunk) {
      if (!std::isfinite(value)) continue;
      const double place = width > 0 ? (value - stats.min) / width : 0;
      ++histogram.counts[static_cast<std::size_t>(std::clamp(place, 0.0, bins - 1.0))];
    }
  return histogram;
}

std::vector<std::int64_t> code_counts(const Weight& weight) {
  if (const auto* int8 = std::get_if<Int8Weight>(&weight)) {
    std::vector<std::int64_t> counts(256, 0);
    for (const std::int8_t code : int8->codes.as<std::int8_t>())
      ++counts[static_cast<std::size_t>(code + 128)];
    return counts;
  }
  if (const auto* block4 = std::get_if<Block4Weight>(&weight)) {
    std::vector<std::int64_t> counts(16, 0);
    std::int64_t left = count_of(block4->shape);  // an odd count leaves the last low nibble without meaning
    for (const std::uint8_t byte : block4->packed.as<std::uint8_t>()) {
      ++counts[byte >> 4];
      if (left > 1) ++counts[byte & 15];
      left -= 2;
    }
    return counts;
  }
  return {};
}

NonFinite non_finite(const TensorView& values) {
  const std::int64_t count = values.count();
  switch (values.dtype) {
    case DType::kF64:
      return count_bits<std::uint64_t>(values.data, count, 0x7ff0000000000000, 0x000fffffffffffff);
    case DType::kF32:
      return count_bits<std::uint32_t>(values.data, count, 0x7f800000, 0x007fffff);
    case DType::kF16:
      return count_bits<std::uint16_t>(values.data, count, 0x7c00, 0x03ff);
    case DType::kBF16:
      return count_bits<std::uint16_t>(values.data, count, 0x7f80, 0x007f);
    default:
      return {};
  }
}

NonFinite non_finite(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  NonFinite found;
  if (!info(tensor.info.dtype).is_float) return found;
  const std::int64_t size = size_of(tensor.info.dtype);
  const std::int64_t count = tensor.info.bytes / size;
  std::vector<std::byte> bytes(static_cast<std::size_t>(std::min(kChunk, count) * size));
  for (std::int64_t done = 0; done < count; done += kChunk) {
    stop_if_interrupted();
    const std::int64_t piece = std::min(kChunk, count - done);
    checkpoint.read(tensor, done * size, std::span(bytes).first(static_cast<std::size_t>(piece * size)));
    const NonFinite more = non_finite(TensorView{bytes.data(), tensor.info.dtype, {piece}});
    found.nan += more.nan;
    found.infinite += more.infinite;
    if (more.any() && !found.any()) found.first = done + more.first;
  }
  return found;
}

}  // namespace qtool
