// The element types of safetensors files, as one table.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qtool {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;        // as in safetensors headers: "BF16"
  std::string_view torch_name;  // as in config.json: "bfloat16"
  int bytes;                    // of one element
  int file_rank;                // safetensors writes tensors by descending rank, then by name
  bool is_float;
};

// Ranks are positions in safetensors' own Dtype enumeration (bitsandbytes-format: "Order of header entries");
// only their order matters.
inline constexpr std::array<DTypeInfo, 13> kDTypes{{
    {DType::kF64, "F64", "float64", 8, 19, true},
    {DType::kF32, "F32", "float32", 4, 17, true},
    {DType::kF16, "F16", "float16", 2, 13, true},
    {DType::kBF16, "BF16", "bfloat16", 2, 14, true},
    {DType::kI64, "I64", "int64", 8, 20, false},
    {DType::kI32, "I32", "int32", 4, 15, false},
    {DType::kI16, "I16", "int16", 2, 11, false},
    {DType::kI8, "I8", "int8", 1, 5, false},
    {DType::kU64, "U64", "uint64", 8, 21, false},
    {DType::kU32, "U32", "uint32", 4, 16, false},
    {DType::kU16, "U16", "uint16", 2, 12, false},
    {DType::kU8, "U8", "uint8", 1, 4, false},
    {DType::kBool, "BOOL", "bool", 1, 0, false},
}};

constexpr const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }
constexpr std::int64_t size_of(DType dtype) { return info(dtype).bytes; }

// By safetensors name ("BF16") or torch name ("bfloat16"); nothing for an unknown one.
constexpr std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& row : kDTypes)
    if (row.name == name || row.torch_name == name) return row.dtype;
  return std::nullopt;
}

constexpr bool dtype_rows_in_enum_order() {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (kDTypes[i].dtype != static_cast<DType>(i)) return false;
  return true;
}
static_assert(dtype_rows_in_enum_order());

}  // namespace qtool
