// Values that weights stand for, against the arithmetic written out value by value.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/convert.h"
#include "core/float16.h"
#include "core/quant/codebook.h"
#include "core/quant/quantizer.h"
#include "core/quant/reference_quantizer.h"

namespace {

using namespace qtool;

Tensor random_matrix(DType dtype, std::int64_t out, std::int64_t in) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(static_cast<std::size_t>(out * in));
  for (float& value : values) value = normal(random);
  Tensor tensor(dtype, {out, in});
  from_float32(values.data(), tensor.count(), dtype, tensor.data());
  return tensor;
}

QuantSpec block4_spec(Code4 code, int block_size, bool nested) {
  QuantSpec spec;
  spec.method = QuantMethod::kBlock4;
  spec.code = code;
  spec.block_size = block_size;
  spec.nested = nested;
  return spec;
}

TEST_CASE("4-bit blocks decode to codebook value times absmax, rounded to the type asked for") {
  const Tensor values = random_matrix(DType::kBF16, 37, 601);  // odd count, partial last block
  for (const Code4 code : {Code4::kNf4, Code4::kFp4})
    for (const bool nested : {false, true})
      for (const int block_size : {64, 4096}) {
        const Weight weight =
            quantize(ReferenceQuantizer(), values.view(), block4_spec(code, block_size, nested));
        const auto& block = std::get<Block4Weight>(weight);
        std::vector<float> expected(static_cast<std::size_t>(values.count()));
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const std::size_t b = i / static_cast<std::size_t>(block_size);
          float absmax;
          if (nested) {
            const float difference = block.nested_quant_map.as<float>()[block.absmax.as<std::uint8_t>()[b]] *
                                     block.nested_absmax.as<float>()[b / 256];
            absmax = difference + block.nested_offset;
          } else {
            absmax = block.absmax.as<float>()[b];
          }
          const int byte = block.packed.as<std::uint8_t>()[i / 2];
          expected[i] = codebook(code).values[i % 2 == 0 ? byte >> 4 : byte & 15] * absmax;
        }
        INFO(code_name(code) << " blocks of " << block_size << " nested " << nested);
        const Tensor wide = dequantize(weight, DType::kF32);
        const Tensor half = dequantize(weight, DType::kF16);
        const Tensor brain = dequantize(weight, DType::kBF16);
        CHECK(wide.shape() == values.shape());
        int wrong = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          wrong += wide.as<float>()[i] != expected[i];
          wrong += float_from_f16(half.as<std::uint16_t>()[i]) != round_to_f16(expected[i]);
          wrong += float_from_bf16(brain.as<std::uint16_t>()[i]) != round_to_bf16(expected[i]);
        }
        CHECK(wrong == 0);
      }
}

TEST_CASE("FP4 code 8 decodes to minus zero") {
  std::vector<float> values(64, 1.0f);
  values[1] = -1e-6f;
  Tensor tensor(DType::kF32, {1, 64});
  from_float32(values.data(), 64, DType::kF32, tensor.data());
  const Weight weight = quantize(ReferenceQuantizer(), tensor.view(), block4_spec(Code4::kFp4, 64, false));
  CHECK(std::get<Block4Weight>(weight).packed.as<std::uint8_t>()[0] == 0x38);
  const float decoded = dequantize(weight, DType::kF32).as<float>()[1];
  CHECK(decoded == 0.0f);
  CHECK(std::signbit(decoded));
}

TEST_CASE("int8 rows decode to code times absmax times 1/127") {
  const Tensor values = random_matrix(DType::kF16, 9, 130);
  QuantSpec spec;
  spec.method = QuantMethod::kInt8;
  const Weight weight = quantize(ReferenceQuantizer(), values.view(), spec);
  const auto& rows = std::get<Int8Weight>(weight);
  const Tensor wide = dequantize(weight, DType::kF32);
  const Tensor half = dequantize(weight, DType::kF16);
  int wrong = 0;
  for (std::size_t i = 0; i < wide.as<float>().size(); ++i) {
    const float product =
        static_cast<float>(rows.codes.as<std::int8_t>()[i]) * rows.row_absmax.as<float>()[i / 130];
    const float expected = product * 7.874015718698502e-3f;
    wrong += wide.as<float>()[i] != expected;
    wrong += float_from_f16(half.as<std::uint16_t>()[i]) != round_to_f16(expected);
  }
  CHECK(wrong == 0);
}

TEST_CASE("dense weights are copies") {
  const Tensor values = random_matrix(DType::kBF16, 3, 5);
  const Weight weight = quantize(ReferenceQuantizer(), values.view(), QuantSpec{});
  const Tensor back = dequantize(weight, DType::kBF16);
  CHECK(std::memcmp(back.data(), values.data(), static_cast<std::size_t>(values.bytes())) == 0);
}

}  // namespace
