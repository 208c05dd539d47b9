#include "formats/quantized_values.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/quant/block4.h"
#include "core/quant/int8.h"
#include "core/quant/nested.h"

namespace qtool {

QuantizedValues::QuantizedValues(const Checkpoint& checkpoint, const std::string& module)
    : checkpoint_(checkpoint),
      stored_(stored_weight_of(checkpoint, module)),
      codes_(&checkpoint.at(module + ".weight")) {
  if (stored_.spec.method == QuantMethod::kNone)
    throw internal_error("'" + escaped(module) + "' is read as quantized, which it is not");
  if (stored_.spec.method == QuantMethod::kInt8) {
    row_absmax_ = checkpoint.read(module + ".SCB");
    return;
  }
  absmax_ = &checkpoint.at(module + ".weight.absmax");
  if (!stored_.spec.nested) return;
  nested_absmax_ = checkpoint.read(module + ".weight.nested_absmax");
  nested_map_ = checkpoint.read(module + ".weight.nested_quant_map");
}

void QuantizedValues::read(std::int64_t begin, std::int64_t count, DType dtype, QuantizedBuffers& buffers,
                           std::byte* out) const {
  if (count == 0) return;
  if (stored_.spec.method == QuantMethod::kInt8) return read_int8(begin, count, dtype, buffers, out);
  read_block4(begin, count, dtype, buffers, out);
}

void QuantizedValues::read_int8(std::int64_t begin, std::int64_t count, DType dtype,
                                QuantizedBuffers& buffers, std::byte* out) const {
  const std::int64_t columns = stored_.shape.at(1);
  const std::span<std::int8_t> codes = buffers.codes.take_as<std::int8_t>(count);
  checkpoint_.read(*codes_, begin, std::as_writable_bytes(codes));
  for (std::int64_t done = 0; done < count;) {  // a row, or the part of it that was asked for
    const std::int64_t row = (begin + done) / columns;
    const std::int64_t end = std::min(count, (row + 1) * columns - begin);
    dequantize_int8_row(codes.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(end - done)),
                        row_absmax_.as<float>()[static_cast<std::size_t>(row)], dtype,
                        out + done * size_of(dtype));
    done = end;
  }
}

void QuantizedValues::read_block4(std::int64_t begin, std::int64_t count, DType dtype,
                                  QuantizedBuffers& buffers, std::byte* out) const {
  const int block_size = stored_.spec.block_size;
  const std::int64_t first = begin / block_size;  // blocks [first, last) hold the values
  const std::int64_t last = (begin + count - 1) / block_size + 1;
  // Codes of absmax are read from where one of their own blocks begins.
  const std::int64_t from = stored_.spec.nested ? first / kNestedBlockSize * kNestedBlockSize : first;
  const std::span<float> absmax = buffers.absmax.take_as<float>(last - from);
  if (stored_.spec.nested) {
    const std::span<std::uint8_t> codes = buffers.statistics.take_as<std::uint8_t>(last - from);
    checkpoint_.read(*absmax_, from, std::as_writable_bytes(codes));
    dequantize_nested(codes, nested_absmax().subspan(static_cast<std::size_t>(from / kNestedBlockSize)),
                      nested_map_.as<float>(), stored_.nested_offset, absmax.data());
  } else {
    checkpoint_.read(*absmax_, from * size_of(DType::kF32), std::as_writable_bytes(absmax));
  }

  const std::int64_t before = begin - first * block_size;  // values of the first block not asked for
  const std::span<std::uint8_t> packed = buffers.codes.take_as<std::uint8_t>((before + count + 1) / 2);
  checkpoint_.read(*codes_, first * block_size / 2, std::as_writable_bytes(packed));
  std::byte* to = before == 0 ? out : buffers.blocks.take((before + count) * size_of(dtype)).data();
  dequantize_blocks4(packed.data(), absmax.data() + (first - from), codebook(stored_.spec.code), block_size,
                     before + count, dtype, to);
  if (before > 0)
    std::memcpy(out, to + before * size_of(dtype), static_cast<std::size_t>(count * size_of(dtype)));
}

}  // namespace qtool
