#include "formats/value_reader.h"

#include <algorithm>

#include "core/convert.h"

namespace qtool {
namespace {

constexpr const char* kStatistics[] = {".weight.absmax", ".weight.nested_absmax", ".SCB"};
constexpr const char* kKeptStatistics[] = {".weight.nested_absmax", ".weight.nested_quant_map", ".SCB"};

}  // namespace

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

ReadMemory ValueReader::memory(std::size_t tensor, DType dtype) const {
  const TensorInfo& stored = checkpoint_.at(tensors_[tensor].name).info;
  ReadMemory memory;
  if (quantized(tensor)) {
    memory.per_element = 2 + 2 * size_of(dtype);  // codes and statistics; whole blocks, and those asked for
    for (const char* suffix : kKeptStatistics) {
      const std::string name = tensors_[tensor].module + suffix;
      if (checkpoint_.has(name)) memory.held += checkpoint_.at(name).info.bytes;
    }
  } else {
    memory.per_element = size_of(stored.dtype) + size_of(dtype);
  }
  if (stored.transposed) {  // read_transposed() in checkpoint.cpp turns whole rows, up to two more than asked
    memory.per_element += 2 * size_of(stored.dtype);
    memory.held += 2 * stored.shape.at(1) * 2 * size_of(stored.dtype);
  }
  if (const Shape& shape = tensors_[tensor].transposed_shape; !shape.empty()) {
    memory.per_element += size_of(dtype);
    memory.held += 2 * shape.at(1) * memory.per_element;  // whole rows here, too
  }
  return memory;
}

const QuantizedValues& ValueReader::loaded(std::size_t tensor) const {
  Loaded& loaded = loaded_[tensor];
  std::call_once(loaded.once, [&] {
    loaded.values = std::make_unique<QuantizedValues>(checkpoint_, tensors_[tensor].module);
  });
  return *loaded.values;
}

std::span<const float> ValueReader::nested_absmax(std::size_t tensor) const {
  return loaded(tensor).nested_absmax();
}

void ValueReader::release(std::size_t tensor) const { loaded_[tensor].values.reset(); }

// Values in the order in which they are stored.
void ValueReader::read_stored(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                              ReadBuffers& buffers, std::byte* out) const {
  if (quantized(tensor)) return loaded(tensor).read(begin, count, dtype, buffers.quantized, out);
  const StoredTensor& stored = checkpoint_.at(tensors_[tensor].name);
  const std::int64_t bytes = count * size_of(stored.info.dtype), at = begin * size_of(stored.info.dtype);
  if (stored.info.dtype == dtype) return checkpoint_.read(stored, at, {out, static_cast<std::size_t>(bytes)});
  const std::span<std::byte> raw = buffers.stored.take(bytes);
  checkpoint_.read(stored, at, raw);
  convert(raw.data(), stored.info.dtype, count, dtype, out);
}

TensorView ValueReader::read(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                             ReadBuffers& buffers) const {
  if (!tensors_[tensor].transposed_shape.empty()) return transposed(tensor, begin, count, dtype, buffers);
  const std::span<std::byte> out = buffers.converted.take(count * size_of(dtype));
  read_stored(tensor, begin, count, dtype, buffers, out.data());
  return {out.data(), dtype, {count}};
}

// Rows of what is read are columns of what is stored: a piece of every stored row.
TensorView ValueReader::transposed(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                                   ReadBuffers& buffers) const {
  const std::int64_t rows = tensors_[tensor].transposed_shape.at(0);
  const std::int64_t columns = tensors_[tensor].transposed_shape.at(1);
  if (count == 0) return {nullptr, dtype, {0}};
  const std::int64_t first = begin / columns, end = (begin + count + columns - 1) / columns;
  const std::int64_t width = end - first, size = size_of(dtype);
  const std::span<std::byte> stored = buffers.converted.take(columns * width * size);  // [columns, width]
  for (std::int64_t c = 0; c < columns; ++c)
    read_stored(tensor, c * rows + first, width, dtype, buffers, stored.data() + c * width * size);
  const std::span<std::byte> out = buffers.transposed.take(columns * width * size);
  transpose(stored.data(), columns, width, size, out.data());
  return {out.data() + (begin - first * columns) * size, dtype, {count}};
}

}  // namespace qtool
