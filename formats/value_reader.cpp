#include "formats/value_reader.h"

#include <algorithm>
#include <cstring>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/quantizer.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

constexpr const char* kStatistics[] = {".weight.absmax", ".weight.nested_absmax", ".SCB"};

// `shape` elements of `tensor` from byte `begin_byte` on.
Tensor copy_of(const Tensor& tensor, std::int64_t begin_byte, DType dtype, Shape shape) {
  Tensor copy(dtype, std::move(shape));
  if (copy.bytes() > 0)
    std::memcpy(copy.data(), tensor.data() + begin_byte, static_cast<std::size_t>(copy.bytes()));
  return copy;
}

// A part of a weight that is a weight itself: from element `begin` on.
struct Slice {
  Weight weight;
  std::int64_t begin = 0;
};

Slice slice_holding(const Block4Weight& whole, std::int64_t begin, std::int64_t end) {
  // Statistics of statistics cover kNestedBlockSize blocks: a slice begins where both kinds of blocks do.
  const std::int64_t unit = std::int64_t{whole.block_size} * (whole.nested() ? kNestedBlockSize : 1);
  const std::int64_t first = begin / unit * unit;
  const std::int64_t last =
      std::min(count_of(whole.shape), (end + whole.block_size - 1) / whole.block_size * whole.block_size);
  const std::int64_t blocks = (last - first + whole.block_size - 1) / whole.block_size;

  Block4Weight part;
  part.shape = {1, last - first};
  part.code = whole.code;
  part.block_size = whole.block_size;
  part.source_dtype = whole.source_dtype;
  part.storage = DType::kU8;
  part.packed = copy_of(whole.packed, first / 2, DType::kU8, {(last - first + 1) / 2});
  part.absmax = copy_of(whole.absmax, first / whole.block_size * size_of(whole.absmax.dtype()),
                        whole.absmax.dtype(), {blocks});
  part.quant_map = copy_of(whole.quant_map, 0, whole.quant_map.dtype(), whole.quant_map.shape());
  if (whole.nested()) {
    part.nested_absmax = copy_of(whole.nested_absmax, first / unit * size_of(DType::kF32), DType::kF32,
                                 {(blocks + kNestedBlockSize - 1) / kNestedBlockSize});
    part.nested_quant_map = copy_of(whole.nested_quant_map, 0, DType::kF32, whole.nested_quant_map.shape());
    part.nested_offset = whole.nested_offset;
  }
  return {std::move(part), first};
}

Slice slice_holding(const Int8Weight& whole, std::int64_t begin, std::int64_t end) {
  const std::int64_t row = whole.codes.shape().at(1);
  const std::int64_t first = begin / row, last = (end + row - 1) / row;
  Int8Weight part;
  part.codes = copy_of(whole.codes, first * row, DType::kI8, {last - first, row});
  part.row_absmax = copy_of(whole.row_absmax, first * size_of(DType::kF32), DType::kF32, {last - first});
  part.threshold = whole.threshold;
  return {std::move(part), first * row};
}

Slice slice_holding(const DenseWeight& whole, std::int64_t begin, std::int64_t end) {
  const DType dtype = whole.values.dtype();
  return {DenseWeight{copy_of(whole.values, begin * size_of(dtype), dtype, {1, end - begin})}, begin};
}

}  // namespace

std::span<std::byte> Buffer::take(std::int64_t bytes) {
  if (memory_.bytes() < bytes) {
    memory_ = Tensor();  // first gives back what it has
    memory_ = Tensor(DType::kU8, {bytes});
  }
  return {memory_.data(), static_cast<std::size_t>(bytes)};
}

Tensor dequantize_range(const Weight& weight, std::int64_t begin, std::int64_t count, DType dtype) {
  if (count == 0) return Tensor(dtype, {0});
  const Slice slice =
      std::visit([&](const auto& form) { return slice_holding(form, begin, begin + count); }, weight);
  const Tensor values = dequantize(slice.weight, dtype);
  return copy_of(values, (begin - slice.begin) * size_of(dtype), dtype, {count});
}

ValueReader::ValueReader(const Checkpoint& checkpoint, std::vector<ValueTensor> tensors)
    : checkpoint_(checkpoint),
      tensors_(std::move(tensors)),
      loaded_(std::make_unique<Loaded[]>(tensors_.size())) {}

bool ValueReader::quantized(std::size_t tensor) const {
  const ValueTensor& value = tensors_[tensor];
  return value.name == value.module + ".weight" &&
         (checkpoint_.has(value.name + ".absmax") || checkpoint_.has(value.module + ".SCB"));
}

std::int64_t ValueReader::stored_bytes(std::size_t tensor) const {
  std::int64_t bytes = checkpoint_.at(tensors_[tensor].name).info.bytes;
  for (const char* suffix : kStatistics) {
    const std::string name = tensors_[tensor].module + suffix;
    if (quantized(tensor) && checkpoint_.has(name)) bytes += checkpoint_.at(name).info.bytes;
  }
  return bytes;
}

// The threshold of an int8 weight concerns inputs of a product, not the weight's values.
const Weight& ValueReader::weight(std::size_t tensor) const {
  Loaded& loaded = loaded_[tensor];
  std::call_once(loaded.once, [&] {
    loaded.weight = std::make_unique<Weight>(read_weight(checkpoint_, tensors_[tensor].module, 0.0f));
  });
  return *loaded.weight;
}

// As weight(), but values in the order of reading, whole and dense where that is not the stored order.
const Weight& ValueReader::loaded(std::size_t tensor, DType dtype) const {
  if (tensors_[tensor].transposed_shape.empty()) return weight(tensor);
  Loaded& loaded = loaded_[tensor];
  std::call_once(loaded.once, [&] {
    const Weight stored = read_weight(checkpoint_, tensors_[tensor].module, 0.0f);
    loaded.weight =
        std::make_unique<Weight>(DenseWeight{qtool::transposed(dequantize(stored, dtype).view())});
  });
  return *loaded.weight;
}

void ValueReader::release(std::size_t tensor) const { loaded_[tensor].weight.reset(); }

TensorView ValueReader::read(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                             ReadBuffers& buffers) const {
  if (quantized(tensor)) {
    const Tensor values = dequantize_range(loaded(tensor, dtype), begin, count, dtype);
    const std::span<std::byte> out = buffers.converted.take(values.bytes());
    if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
    return {out.data(), dtype, {count}};
  }
  if (!tensors_[tensor].transposed_shape.empty()) return transposed(tensor, begin, count, dtype, buffers);
  const StoredTensor& stored = checkpoint_.at(tensors_[tensor].name);
  const std::int64_t size = size_of(stored.info.dtype);
  const std::span<std::byte> raw = buffers.stored.take(count * size);
  checkpoint_.read(stored, begin * size, raw);
  if (stored.info.dtype == dtype) return {raw.data(), dtype, {count}};
  const std::span<std::byte> out = buffers.converted.take(count * size_of(dtype));
  convert(raw.data(), stored.info.dtype, count, dtype, out.data());
  return {out.data(), dtype, {count}};
}

// Rows of what is read are columns of what is stored: a piece of every stored row.
TensorView ValueReader::transposed(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                                   ReadBuffers& buffers) const {
  const StoredTensor& stored = checkpoint_.at(tensors_[tensor].name);
  const std::int64_t rows = tensors_[tensor].transposed_shape.at(0);
  const std::int64_t columns = tensors_[tensor].transposed_shape.at(1);
  if (count == 0) return {nullptr, dtype, {0}};
  const std::int64_t first = begin / columns, end = (begin + count + columns - 1) / columns;
  const std::int64_t width = end - first, size = size_of(stored.info.dtype);
  const std::span<std::byte> raw = buffers.stored.take(columns * width * size);  // [columns, width]
  for (std::int64_t c = 0; c < columns; ++c)
    checkpoint_.read(
        stored, (c * rows + first) * size,
        raw.subspan(static_cast<std::size_t>(c * width * size), static_cast<std::size_t>(width * size)));
  const std::span<std::byte> cast = buffers.converted.take(columns * width * size_of(dtype));
  convert(raw.data(), stored.info.dtype, columns * width, dtype, cast.data());
  const std::span<std::byte> out = buffers.transposed.take(columns * width * size_of(dtype));
  transpose(cast.data(), columns, width, size_of(dtype), out.data());
  return {out.data() + (begin - first * columns) * size_of(dtype), dtype, {count}};
}

}  // namespace qtool
