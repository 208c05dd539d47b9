#include "core/quant/weight.h"

#include <string>

#include "core/error.h"
#include "core/quant/blocks.h"

namespace qtool {

namespace {

// Shape under which the packed bytes are filed: a column of storage elements.
Shape packed_shape(std::int64_t count, DType storage) {
  if (storage != DType::kU8 && storage != DType::kI8 && !info(storage).is_float)
    throw Error(ExitCode::kUnsupported, "cannot file 4-bit codes as " + std::string(info(storage).name) +
                                            "; the storage types are U8, I8, F16, BF16, F32 and F64");
  const std::int64_t element = size_of(storage);
  // bitsandbytes allocates too little here and loses the last bytes; there is nothing to be compatible with.
  if (element > 1 && count % (2 * element) != 0)
    throw Error(ExitCode::kUnsupported, "the 4-bit codes of " + std::to_string(count) +
                                            " values do not fill whole elements of storage type " +
                                            std::string(info(storage).name) + "; use storage type uint8");
  return {divide_up(count, 2) / element, 1};
}

template <class... Ts>
struct Overload : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overload(Ts...) -> Overload<Ts...>;

}  // namespace

Shape shape_of(const Weight& weight) {
  return std::visit(Overload{
                        [](const DenseWeight& w) { return w.values.shape(); },
                        [](const Int8Weight& w) { return w.codes.shape(); },
                        [](const Block4Weight& w) { return w.shape; },
                    },
                    weight);
}

std::int64_t bytes_of(const Weight& weight) {
  constexpr std::int64_t kWeightFormatBytes = 1;  // filed beside the codes, always 0, so not kept in memory
  return std::visit(
      Overload{
          [](const DenseWeight& w) { return w.values.bytes(); },
          [](const Int8Weight& w) { return w.codes.bytes() + w.row_absmax.bytes() + kWeightFormatBytes; },
          [](const Block4Weight& w) {
            return w.packed.bytes() + w.absmax.bytes() + w.quant_map.bytes() + w.nested_absmax.bytes() +
                   w.nested_quant_map.bytes() + w.quant_state.bytes();
          },
      },
      weight);
}

std::vector<Part> parts_of(const Shape& shape, DType source_dtype, const QuantSpec& spec,
                           std::int64_t quant_state_bytes) {
  switch (spec.method) {
    case QuantMethod::kNone:
      return {{".weight", source_dtype, shape}};
    case QuantMethod::kInt8:
      return {{".weight", DType::kI8, shape},
              {".SCB", DType::kF32, {shape.at(0)}},
              {".weight_format", DType::kU8, {}}};
    case QuantMethod::kBlock4:
      break;
  }
  check_block_size4(spec.block_size);
  const std::int64_t count = count_of(shape);
  const std::int64_t blocks = divide_up(count, spec.block_size);
  std::vector<Part> parts{
      {".weight", spec.storage, packed_shape(count, spec.storage)},
      {".weight.absmax", spec.nested ? DType::kU8 : DType::kF32, {blocks}},
      {".weight.quant_map", DType::kF32, {16}},
  };
  if (spec.nested) {
    parts.push_back({".weight.nested_absmax", DType::kF32, {divide_up(blocks, kNestedBlockSize)}});
    parts.push_back({".weight.nested_quant_map", DType::kF32, {256}});
  }
  parts.push_back({".weight.quant_state.bitsandbytes__" + std::string(code_name(spec.code)),
                   DType::kU8,
                   {quant_state_bytes}});
  return parts;
}

}  // namespace qtool
