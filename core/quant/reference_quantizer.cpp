#include "core/quant/reference_quantizer.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/block4.h"
#include "core/quant/blocks.h"
#include "core/quant/int8.h"
#include "core/quant/nested.h"

namespace qtool {

namespace {

void check_type(DType dtype) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16)
    throw Error(ExitCode::kUnsupported, "cannot quantize elements of type " + std::string(info(dtype).name) +
                                            "; the types are F32, F16 and BF16");
}

void check_size(std::size_t got, std::int64_t wanted, const char* what) {
  if (static_cast<std::int64_t>(got) != wanted)
    throw internal_error(std::string("room for ") + std::to_string(got) + " " + what + " instead of " +
                         std::to_string(wanted));
}

}  // namespace

void check_block4(const TensorView& values, int block_size, std::span<const std::uint8_t> packed,
                  std::span<const float> absmax) {
  check_type(values.dtype);
  check_block_size4(block_size);
  check_size(packed.size(), divide_up(values.count(), 2), "packed bytes");
  check_size(absmax.size(), divide_up(values.count(), block_size), "absmax values");
}

void check_nest(std::span<const float> absmax, std::span<const std::uint8_t> codes,
                std::span<const float> nested_absmax) {
  const auto count = static_cast<std::int64_t>(absmax.size());
  check_size(codes.size(), count, "absmax codes");
  check_size(nested_absmax.size(), divide_up(count, kNestedBlockSize), "nested absmax values");
}

void check_int8_rows(const TensorView& values, std::span<const std::int8_t> codes,
                     std::span<const float> row_absmax) {
  check_type(values.dtype);
  if (values.shape.size() != 2) throw internal_error("rows of a tensor that is not a matrix");
  check_size(codes.size(), values.count(), "codes");
  check_size(row_absmax.size(), values.shape[0], "row absmax values");
}

void ReferenceQuantizer::block4(const TensorView& values, Code4 code, int block_size,
                                std::span<std::uint8_t> packed, std::span<float> absmax) const {
  check_block4(values, block_size, packed, absmax);
  std::array<float, kBlockSizes4.back()> block;
  const std::int64_t count = values.count();
  for (std::int64_t first = 0; first < count; first += block_size) {
    const std::int64_t size = std::min<std::int64_t>(block_size, count - first);
    to_float32(values.data + first * size_of(values.dtype), values.dtype, size, block.data());
    absmax[static_cast<std::size_t>(first / block_size)] = quantize_block4(
        {block.data(), static_cast<std::size_t>(size)}, codebook(code), packed.data() + first / 2);
  }
}

float ReferenceQuantizer::nest(std::span<const float> absmax, std::span<std::uint8_t> codes,
                               std::span<float> nested_absmax) const {
  check_nest(absmax, codes, nested_absmax);
  return quantize_nested(absmax, codes, nested_absmax);
}

void ReferenceQuantizer::int8_rows(const TensorView& values, std::span<std::int8_t> codes,
                                   std::span<float> row_absmax) const {
  check_int8_rows(values, codes, row_absmax);
  const std::int64_t columns = values.shape[1];
  std::vector<float> row(static_cast<std::size_t>(columns));
  for (std::int64_t r = 0; r < values.shape[0]; ++r) {
    to_float32(values.data + r * columns * size_of(values.dtype), values.dtype, columns, row.data());
    row_absmax[static_cast<std::size_t>(r)] = quantize_int8_row(row, codes.data() + r * columns);
  }
}

}  // namespace qtool
