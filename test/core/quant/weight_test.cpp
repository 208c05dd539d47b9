// Pieces of weights and their spelling.
#include "core/quant/weight.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/quantizer.h"
#include "core/quant/reference_quantizer.h"

namespace {

using namespace qtool;

Tensor small_matrix(std::int64_t out, std::int64_t in) {
  Tensor tensor(DType::kBF16, {out, in});
  std::uint16_t bits = 0x3c00;
  for (std::uint16_t& value : tensor.as<std::uint16_t>())
    value = bits = static_cast<std::uint16_t>(bits * 5 % 0x7f61);
  return tensor;
}

QuantSpec block4_spec(Code4 code, bool nested, DType storage = DType::kU8) {
  QuantSpec spec;
  spec.method = QuantMethod::kBlock4;
  spec.code = code;
  spec.nested = nested;
  spec.storage = storage;
  return spec;
}

TEST_CASE("numbers are spelled as Python's repr does") {
  // Left: what CPython 3.11 printed.
  CHECK(python_repr(0.0) == "0.0");
  CHECK(python_repr(-0.0) == "-0.0");
  CHECK(python_repr(1.0) == "1.0");
  CHECK(python_repr(-2.5) == "-2.5");
  CHECK(python_repr(0.1) == "0.1");
  CHECK(python_repr(0.0001) == "0.0001");
  CHECK(python_repr(0.00001) == "1e-05");
  CHECK(python_repr(1.5e-5) == "1.5e-05");
  CHECK(python_repr(-1.25e-7) == "-1.25e-07");
  CHECK(python_repr(123456.789) == "123456.789");
  CHECK(python_repr(1e15) == "1000000000000000.0");
  CHECK(python_repr(9007199254740993.0) == "9007199254740992.0");
  CHECK(python_repr(1e16) == "1e+16");
  CHECK(python_repr(1.2345678e+20) == "1.2345678e+20");
  CHECK(python_repr(1.7976931348623157e308) == "1.7976931348623157e+308");
  CHECK(python_repr(5e-324) == "5e-324");
  CHECK(python_repr(double{0.052030738443136215f}) == "0.052030738443136215");
  CHECK(python_repr(double{0.1f}) == "0.10000000149011612");
  CHECK(python_repr(double{16777216.0f}) == "16777216.0");
  CHECK(python_repr(std::numeric_limits<double>::infinity()) == "inf");
  CHECK(python_repr(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(python_repr(std::nan("")) == "nan");
}

TEST_CASE("the packed JSON is that of bitsandbytes") {
  CHECK(quant_state_json({128, 352}, DType::kBF16, block4_spec(Code4::kNf4, false), 0) ==
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 352]})");
  const QuantSpec nested = block4_spec(Code4::kFp4, true);
  const std::string json =
      R"({"quant_type": "fp4", "blocksize": 64, "dtype": "float16", "shape": [128, 352], )"
      R"("nested_blocksize": 256, )"
      R"("nested_dtype": "float32", "nested_offset": 0.052030738443136215})";
  CHECK(quant_state_json({128, 352}, DType::kF16, nested, 0.052030738443136215f) == json);
  CHECK(typical_quant_state_bytes({128, 352}, DType::kF16, nested) == static_cast<std::int64_t>(json.size()));
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(quant_state_json({1, 1}, DType::kF32, nested, infinity).ends_with("\"nested_offset\": Infinity}"));
  CHECK(quant_state_json({1, 1}, DType::kF32, nested, -infinity).ends_with("\"nested_offset\": -Infinity}"));
  CHECK(quant_state_json({1, 1}, DType::kF32, nested, std::nanf("")).ends_with("\"nested_offset\": NaN}"));
}

TEST_CASE("schemes have names") {
  QuantSpec spec;
  CHECK(scheme_name(spec) == "none");
  spec.method = QuantMethod::kInt8;
  CHECK(scheme_name(spec) == "int8");
  CHECK(scheme_name(block4_spec(Code4::kNf4, false)) == "nf4");
  CHECK(scheme_name(block4_spec(Code4::kFp4, true)) == "fp4-dq");
}

TEST_CASE("a weight occupies exactly its parts") {
  const Tensor values = small_matrix(7, 160);
  std::vector<QuantSpec> specs(2);
  specs[1].method = QuantMethod::kInt8;
  for (const Code4 code : {Code4::kNf4, Code4::kFp4})
    for (const bool nested : {false, true})
      for (const DType storage : {DType::kU8, DType::kBF16, DType::kF32, DType::kF64})
        specs.push_back(block4_spec(code, nested, storage));
  for (const QuantSpec& spec : specs) {
    INFO(scheme_name(spec));
    const Weight weight = quantize(ReferenceQuantizer(), values.view(), spec);
    CHECK(shape_of(weight) == values.shape());
    const auto* block4 = std::get_if<Block4Weight>(&weight);
    const std::int64_t state_bytes = block4 ? block4->quant_state.bytes() : 0;
    std::int64_t sum = 0;
    for (const Part& part : parts_of(values.shape(), DType::kBF16, spec, state_bytes)) sum += part.bytes();
    CHECK(bytes_of(weight) == sum);
    if (block4 == nullptr) continue;
    CHECK(std::memcmp(block4->quant_map.data(), codebook(spec.code).values, 64) == 0);
    CHECK(block4->nested() == spec.nested);
    if (spec.nested) CHECK(std::memcmp(block4->nested_quant_map.data(), kDynamicMap.data(), 1024) == 0);
    const std::string state(reinterpret_cast<const char*>(block4->quant_state.data()),
                            static_cast<std::size_t>(state_bytes));
    CHECK(state == quant_state_json(values.shape(), DType::kBF16, spec, block4->nested_offset));
  }
}

TEST_CASE("parts have the names, types and shapes that bitsandbytes files") {
  const auto parts = parts_of({128, 352}, DType::kBF16, block4_spec(Code4::kNf4, true, DType::kBF16), 170);
  REQUIRE(parts.size() == 6);
  CHECK(parts[0].suffix == ".weight");
  CHECK(parts[0].dtype == DType::kBF16);
  CHECK(parts[0].shape == Shape{128 * 352 / 4, 1});
  CHECK(parts[1].suffix == ".weight.absmax");
  CHECK(parts[1].dtype == DType::kU8);
  CHECK(parts[1].shape == Shape{704});
  CHECK(parts[2].suffix == ".weight.quant_map");
  CHECK(parts[3].suffix == ".weight.nested_absmax");
  CHECK(parts[3].shape == Shape{3});
  CHECK(parts[4].suffix == ".weight.nested_quant_map");
  CHECK(parts[5].suffix == ".weight.quant_state.bitsandbytes__nf4");
  CHECK(parts[5].shape == Shape{170});

  QuantSpec int8;
  int8.method = QuantMethod::kInt8;
  const auto rows = parts_of({128, 352}, DType::kBF16, int8, 0);
  REQUIRE(rows.size() == 3);
  CHECK(rows[1].suffix == ".SCB");
  CHECK(rows[1].shape == Shape{128});
  CHECK(rows[2].suffix == ".weight_format");
  CHECK(rows[2].shape.empty());
  CHECK(rows[2].bytes() == 1);
}

TEST_CASE("what cannot be quantized is refused") {
  const auto code_of_error = [](const Tensor& values, const QuantSpec& spec) {
    try {
      quantize(ReferenceQuantizer(), values.view(), spec);
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::kOk;
  };
  const QuantSpec nf4 = block4_spec(Code4::kNf4, false);
  CHECK(code_of_error(small_matrix(5, 33), nf4) == ExitCode::kOk);
  CHECK(code_of_error(small_matrix(5, 33), block4_spec(Code4::kNf4, false, DType::kBF16)) ==
        ExitCode::kUnsupported);
  CHECK(code_of_error(small_matrix(4, 32), block4_spec(Code4::kNf4, false, DType::kI32)) ==
        ExitCode::kUnsupported);
  CHECK(code_of_error(small_matrix(0, 32), nf4) == ExitCode::kUnsupported);
  CHECK(code_of_error(Tensor(DType::kF32, {32}), nf4) == ExitCode::kUnsupported);
  CHECK(code_of_error(Tensor(DType::kI32, {2, 32}), nf4) == ExitCode::kUnsupported);
  QuantSpec odd = nf4;
  for (const int block_size : {0, -64, 16, 48, 8192}) {
    odd.block_size = block_size;
    CHECK(code_of_error(small_matrix(4, 32), odd) == ExitCode::kUnsupported);
  }
}

}  // namespace
