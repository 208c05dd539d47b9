// Blocks and rows of zeros, NaN, infinities, denormal and huge values, and whole pseudo-random tensors,
// against results of the real software and of its plain model.
#include <cstring>
#include <map>

#include "core/convert.h"
#include "core/quant/nested.h"
#include "core/quant/quantizer.h"
#include "core/quant/reference_quantizer.h"
#include "core/sha256.h"
#include "test/core/quant/quant_vectors.h"

namespace {

using namespace qtool;
using namespace qtool::test;
using Words = std::vector<std::string>;

Tensor tensor_of(const std::vector<float>& values, DType dtype, Shape shape) {
  Tensor out(dtype, std::move(shape));
  from_float32(values.data(), out.count(), dtype, out.data());
  return out;
}

std::map<std::string, std::vector<float>> special_cases() {
  std::map<std::string, std::vector<float>> cases;
  for (const Words& record : vectors_of("case"))
    for (std::size_t i = 1; i < record.size(); ++i) cases[record[0]].push_back(float_from_hex(record[i]));
  return cases;
}

DType dtype_of(const std::string& name) { return dtype_from_name(name).value(); }
Code4 code_named(const std::string& name) { return name == "nf4" ? Code4::kNf4 : Code4::kFp4; }

template <typename T>
std::string sha256_of(std::span<const T> data) {
  Sha256 sha;
  sha.update(std::as_bytes(data));
  return sha.hex_digest();
}

TEST_CASE("special blocks of 4-bit codes are those of CUDA") {
  const auto cases = special_cases();
  const auto records = vectors_of("q4");
  REQUIRE(records.size() == 66);
  for (const Words& r : records) {
    INFO(r[0] << " " << r[1] << " " << r[2]);
    const Tensor values = tensor_of(cases.at(r[0]), dtype_of(r[1]), {1, 64});
    QuantSpec spec;
    spec.method = QuantMethod::kBlock4;
    spec.code = code_named(r[2]);
    const Weight weight = quantize(ReferenceQuantizer(), values.view(), spec);
    const auto& block = std::get<Block4Weight>(weight);
    const auto packed = block.packed.as<std::uint8_t>();
    for (const std::size_t i : {0u, 1u, 2u, 3u, 4u, 5u, 30u, 31u})
      CHECK(packed[i] == std::stoul(r[3 + (i < 6 ? i : i - 24)], nullptr, 16));
    CHECK(bits_of(block.absmax.as<float>()[0]) == bits_of(float_from_hex(r[11])));
    const Tensor back = converted(dequantize(weight, dtype_of(r[1])).view(), DType::kF32);
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(bits_of(back.as<float>()[i]) == bits_of(float_from_hex(r[12 + i])));
  }
}

TEST_CASE("special blocks of 8-bit codes are those of CUDA") {
  const auto cases = special_cases();
  const auto records = vectors_of("q8");
  REQUIRE(records.size() == 33);
  for (const Words& r : records) {
    INFO(r[0] << " " << r[1]);
    const Tensor values = converted(tensor_of(cases.at(r[0]), dtype_of(r[1]), {64}).view(), DType::kF32);
    std::vector<std::uint8_t> codes(64);
    const float absmax = quantize_block8(values.as<float>(), codes.data());
    for (const std::size_t i : {0u, 1u, 2u, 3u, 4u, 5u, 62u, 63u})
      CHECK(int{codes[i]} == std::stoi(r[2 + (i < 6 ? i : i - 56)]));
    CHECK(bits_of(absmax) == bits_of(float_from_hex(r[10])));
  }
}

TEST_CASE("special rows of int8 are those of CUDA") {
  const auto cases = special_cases();
  const auto records = vectors_of("int8");
  REQUIRE(records.size() == 11);
  for (const Words& r : records) {
    INFO(r[0]);
    const Tensor values = tensor_of(cases.at(r[0]), DType::kF16, {1, 64});
    std::vector<std::int8_t> codes(64);
    float absmax = 1.0f;
    ReferenceQuantizer().int8_rows(values.view(), codes, {&absmax, 1});
    for (const std::size_t i : {0u, 1u, 2u, 3u, 4u, 5u, 62u, 63u})
      CHECK(int{codes[i]} == std::stoi(r[1 + (i < 6 ? i : i - 56)]));
    CHECK(bits_of(absmax) == bits_of(float_from_hex(r[9])));
  }
}

TEST_CASE("tensors of all kinds have the packed bytes and absmax of the plain model") {
  for (const Words& r : vectors_of("digest4")) {
    INFO(r[0] << " " << r[1] << " blocks of " << r[2]);
    const int block_size = std::stoi(r[2]);
    std::vector<float> values(std::stoul(r[3]));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = test_value(static_cast<std::uint32_t>(i));
    const auto count = static_cast<std::int64_t>(values.size());
    const Tensor tensor = tensor_of(values, dtype_of(r[0]), {count});
    std::vector<std::uint8_t> packed((values.size() + 1) / 2);
    std::vector<float> absmax((values.size() + static_cast<std::size_t>(block_size) - 1) /
                              static_cast<std::size_t>(block_size));
    ReferenceQuantizer().block4(tensor.view(), code_named(r[1]), block_size, packed, absmax);
    CHECK(sha256_of(std::span<const std::uint8_t>(packed)) == r[4]);
    CHECK(sha256_of(std::span<const float>(absmax)) == r[5]);
  }
  for (const Words& r : vectors_of("digest8")) {
    INFO(r[0] << " int8");
    const Shape shape{std::stol(r[1]), std::stol(r[2])};
    std::vector<float> values(static_cast<std::size_t>(count_of(shape)));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = test_value(static_cast<std::uint32_t>(i));
    const Tensor tensor = tensor_of(values, dtype_of(r[0]), shape);
    std::vector<std::int8_t> codes(values.size());
    std::vector<float> absmax(static_cast<std::size_t>(shape[0]));
    ReferenceQuantizer().int8_rows(tensor.view(), codes, absmax);
    CHECK(sha256_of(std::span<const std::int8_t>(codes)) == r[3]);
    CHECK(sha256_of(std::span<const float>(absmax)) == r[4]);
  }
}

TEST_CASE("double quantization has the offset, codes and nested absmax of the plain model") {
  const auto records = vectors_of("digest_nested");
  REQUIRE(records.size() == 7);
  for (const Words& r : records) {
    INFO(r[0] << " absmax values");
    std::vector<float> absmax(std::stoul(r[0]));
    for (std::size_t i = 0; i < absmax.size(); ++i)
      absmax[i] = std::fabs(test_value(static_cast<std::uint32_t>(i)));
    std::vector<std::uint8_t> codes(absmax.size());
    std::vector<float> nested((absmax.size() + 255) / 256);
    const float offset = quantize_nested(absmax, codes, nested);
    CHECK(bits_of(offset) == bits_of(float_from_hex(r[1])));
    CHECK(sha256_of(std::span<const std::uint8_t>(codes)) == r[2]);
    CHECK(sha256_of(std::span<const float>(nested)) == r[3]);
  }
}

}  // namespace
