#include "core/quant/quantizer.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/block4.h"
#include "core/quant/blocks.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/int8.h"
#include "core/quant/nested.h"

namespace qtool {

namespace {

Tensor tensor_of_floats(std::span<const float> values) {
  Tensor out(DType::kF32, {static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), out.as<float>().begin());
  return out;
}

Weight quantize_to_block4(const Quantizer& quantizer, const TensorView& values, const QuantSpec& spec) {
  const std::int64_t count = values.count();
  // For its errors: an unknown block size, a storage type that the codes do not fill evenly.
  parts_of(values.shape, values.dtype, spec, 0);

  Block4Weight weight;
  weight.shape = values.shape;
  weight.code = spec.code;
  weight.block_size = spec.block_size;
  weight.source_dtype = values.dtype;
  weight.storage = spec.storage;
  weight.packed = Tensor(DType::kU8, {divide_up(count, 2)});
  weight.quant_map = tensor_of_floats(codebook(spec.code).values);
  Tensor absmax(DType::kF32, {divide_up(count, spec.block_size)});  // [blocks]
  quantizer.block4(values, spec.code, spec.block_size, weight.packed.as<std::uint8_t>(), absmax.as<float>());
  if (spec.nested) {
    weight.absmax = Tensor(DType::kU8, absmax.shape());
    weight.nested_absmax = Tensor(DType::kF32, {divide_up(absmax.count(), kNestedBlockSize)});
    weight.nested_quant_map = tensor_of_floats(kDynamicMap);
    weight.nested_offset = quantizer.nest(absmax.as<float>(), weight.absmax.as<std::uint8_t>(),
                                          weight.nested_absmax.as<float>());
  } else {
    weight.absmax = std::move(absmax);
  }
  const std::string state = quant_state_json(values.shape, values.dtype, spec, weight.nested_offset);
  weight.quant_state = Tensor(DType::kU8, {static_cast<std::int64_t>(state.size())});
  std::memcpy(weight.quant_state.data(), state.data(), state.size());
  return weight;
}

Weight quantize_to_int8(const Quantizer& quantizer, const TensorView& values, const QuantSpec& spec) {
  Int8Weight weight;
  weight.codes = Tensor(DType::kI8, values.shape);
  weight.row_absmax = Tensor(DType::kF32, {values.shape[0]});
  weight.threshold = spec.int8_threshold;
  quantizer.int8_rows(values, weight.codes.as<std::int8_t>(), weight.row_absmax.as<float>());
  return weight;
}

Tensor dequantize_block4(const Block4Weight& weight, DType dtype) {
  Tensor plain;  // [blocks], when absmax is quantized
  const float* absmax = nullptr;
  if (weight.nested()) {
    plain = Tensor(DType::kF32, weight.absmax.shape());
    dequantize_nested(weight.absmax.as<std::uint8_t>(), weight.nested_absmax.as<float>(),
                      weight.nested_quant_map.as<float>(), weight.nested_offset, plain.as<float>().data());
    absmax = plain.as<float>().data();
  } else {
    absmax = weight.absmax.as<float>().data();
  }
  Tensor out(dtype, weight.shape);
  dequantize_blocks4(weight.packed.as<std::uint8_t>().data(), absmax, codebook(weight.code),
                     weight.block_size, out.count(), dtype, out.data());
  return out;
}

}  // namespace

Weight quantize(const Quantizer& quantizer, const TensorView& values, const QuantSpec& spec) {
  if (spec.method == QuantMethod::kNone) return DenseWeight{converted(values, values.dtype)};
  if (values.shape.size() != 2 || values.count() == 0) {
    std::string shape;
    for (const std::int64_t extent : values.shape)
      shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    throw Error(ExitCode::kUnsupported,
                "cannot quantize a tensor of shape [" + shape + "]; it must be a matrix that is not empty");
  }
  return spec.method == QuantMethod::kInt8 ? quantize_to_int8(quantizer, values, spec)
                                           : quantize_to_block4(quantizer, values, spec);
}

Tensor dequantize(const Weight& weight, DType dtype) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) return converted(dense->values.view(), dtype);
  if (const auto* int8 = std::get_if<Int8Weight>(&weight))
    return dequantize_int8(int8->codes, int8->row_absmax, dtype);
  return dequantize_block4(std::get<Block4Weight>(weight), dtype);
}

}  // namespace qtool
