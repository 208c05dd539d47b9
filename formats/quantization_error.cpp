#include "formats/quantization_error.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/convert.h"
#include "core/quant/codebook.h"
#include "core/quant/quantizer.h"

namespace qtool {
namespace {

template <typename T>
Tensor tensor_of(DType dtype, Shape shape, const T* first) {
  Tensor tensor(dtype, std::move(shape));
  std::copy_n(first, tensor.count(), tensor.as<T>().data());
  return tensor;
}

}  // namespace

double SquareSums::relative_rmse() const { return error == 0.0 ? 0.0 : std::sqrt(error / value); }

SquareSums square_sums(const TensorView& exact, std::span<const float> quantized) {
  std::vector<float> values(quantized.size());
  to_float32(exact.data, exact.dtype, std::ssize(values), values.data());
  SquareSums sums;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i], difference = value - static_cast<double>(quantized[i]);
    sums.error += difference * difference;
    sums.value += value * value;
  }
  return sums;
}

SquareSums sample_block4(const TensorView& values, const QuantSpec& spec,
                         std::span<const std::uint8_t> packed, std::span<const float> absmax) {
  const std::int64_t count = std::min(values.count(), kSampledElements);
  Block4Weight sample;
  sample.shape = {1, count};
  sample.code = spec.code;
  sample.block_size = spec.block_size;
  sample.source_dtype = values.dtype;
  sample.packed = tensor_of(DType::kU8, {(count + 1) / 2}, packed.data());
  sample.absmax = tensor_of(DType::kF32, {(count + spec.block_size - 1) / spec.block_size}, absmax.data());
  sample.quant_map = tensor_of(DType::kF32, {16}, std::data(codebook(spec.code).values));
  return square_sums(values, dequantize(Weight(std::move(sample)), DType::kF32).as<float>());
}

SquareSums sample_int8(const TensorView& values, std::int64_t in, std::span<const std::int8_t> codes,
                       std::span<const float> row_absmax) {
  if (codes.empty()) return {};
  const std::int64_t rows = std::clamp<std::int64_t>(kSampledElements / in, 1, std::ssize(row_absmax));
  Int8Weight sample;
  sample.codes = tensor_of(DType::kI8, {rows, in}, codes.data());
  sample.row_absmax = tensor_of(DType::kF32, {rows}, row_absmax.data());
  return square_sums(values, dequantize(Weight(std::move(sample)), DType::kF32).as<float>());
}

}  // namespace qtool
