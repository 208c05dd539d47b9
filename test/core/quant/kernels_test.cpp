// The quantizers of every instruction set this machine has give the bytes of the reference.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/convert.h"
#include "core/cpu/cpu_backend.h"
#include "core/error.h"
#include "core/quant/codebook.h"
#include "core/quant/reference_quantizer.h"

namespace {

using namespace qtool;

float float_from_bits(std::uint64_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits)); }

// Forces an instruction set as a user would; the former setting returns with the end of the scope.
class ForcedLevel {
 public:
  explicit ForcedLevel(const char* name) {
    if (const char* before = std::getenv("QTOOL_CPU")) before_ = before;
    setenv("QTOOL_CPU", name, 1);
  }
  ~ForcedLevel() {
    if (before_.empty())
      unsetenv("QTOOL_CPU");
    else
      setenv("QTOOL_CPU", before_.c_str(), 1);
  }
  ForcedLevel(const ForcedLevel&) = delete;
  ForcedLevel& operator=(const ForcedLevel&) = delete;

 private:
  std::string before_;
};

std::vector<const char*> vector_levels() {
  std::vector<const char*> names;
  for (const CpuLevel level : {CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    const ForcedLevel forced(name_of(level));
    try {
      cpu_level();
      names.push_back(name_of(level));
    } catch (const Error&) {
      WARN("SKIPPED: this processor has no " << name_of(level));
    }
  }
  return names;
}

// Stretches of 64 values, each of another kind: ordinary ones of every magnitude, values a hair from a
// threshold, and ordinary ones with a few special values among them.
std::vector<float> all_sorts(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  const float specials[] = {0.0f,
                            -0.0f,
                            0x1p-149f,
                            -0x1p-130f,
                            -0x1p-126f,
                            0x1p-120f,
                            -0x1p-120f,
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(),
                            65504.0f,
                            -65520.0f,
                            1e38f,
                            -3.4e38f};
  for (std::size_t first = 0; first < count; first += 64) {
    const std::size_t end = std::min(count, first + 64);
    const auto kind = random() % 8;
    const float scale =
        std::ldexp(1.0f + normal(random) * 0.1f,
                   kind < 4 ? -static_cast<int>(random() % 12) : static_cast<int>(random() % 250) - 126);
    const Codebook4& book = random() % 2 == 0 ? kNf4Codebook : kFp4Codebook;
    for (std::size_t i = first; i < end; ++i) {
      values[i] = normal(random) * scale;
      if (kind == 2) {
        const auto bits = std::bit_cast<std::uint32_t>(
            scale * book.thresholds[random() % static_cast<unsigned>(book.threshold_count)]);
        values[i] = float_from_bits(bits + random() % 5 - 2);
      }
      if (kind == 3 && random() % 16 == 0) values[i] = specials[random() % std::size(specials)];
      if (kind == 7) values[i] = float_from_bits(random());
    }
    if (kind == 2) values[first] = scale;
    if (kind == 6)
      std::fill(values.begin() + static_cast<std::ptrdiff_t>(first),
                values.begin() + static_cast<std::ptrdiff_t>(end), specials[random() % 7]);
  }
  return values;
}

Tensor tensor_of(const std::vector<float>& values, DType dtype, Shape shape) {
  Tensor out(dtype, std::move(shape));
  from_float32(values.data(), out.count(), dtype, out.data());
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_block4(const Quantizer& quantizer, const TensorView& values, Code4 code, int block_size) {
  const auto count = static_cast<std::size_t>(values.count());
  const std::size_t blocks =
      (count + static_cast<std::size_t>(block_size) - 1) / static_cast<std::size_t>(block_size);
  std::vector<std::uint8_t> packed((count + 1) / 2, 0xaa), expected_packed((count + 1) / 2, 0x55);
  std::vector<float> absmax(blocks), expected_absmax(blocks);
  quantizer.block4(values, code, block_size, packed, absmax);
  ReferenceQuantizer().block4(values, code, block_size, expected_packed, expected_absmax);
  INFO(info(values.dtype).name << " " << code_name(code) << " " << count << " values in blocks of "
                               << block_size);
  CHECK(packed == expected_packed);
  CHECK(same_bits(absmax, expected_absmax));
}

TEST_CASE("4-bit kernels give the reference's bytes") {
  const std::vector<float> values = all_sorts(300007, 1);
  for (const char* level : vector_levels()) {
    const ForcedLevel forced(level);
    const auto quantizer = make_cpu_quantizer();
    INFO(level);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const Tensor tensor = tensor_of(values, dtype, {static_cast<std::int64_t>(values.size())});
      for (const Code4 code : {Code4::kNf4, Code4::kFp4}) {
        check_block4(*quantizer, tensor.view(), code, 64);
        for (const int block_size : kBlockSizes4)
          for (const std::int64_t count : {1, 31, 33, 64, 4095, 4096, 20003}) {
            TensorView piece = tensor.view();
            piece.shape = {count};
            check_block4(*quantizer, piece, code, block_size);
          }
      }
    }
  }
}

TEST_CASE("4-bit kernels decide as the reference at every threshold") {
  // For many absmax values and every threshold, the float32 values around the one that scales to it.
  std::mt19937 random(2);
  for (const Code4 code : {Code4::kNf4, Code4::kFp4}) {
    const Codebook4& book = codebook(code);
    std::vector<float> values;
    for (int block = 0; block < 3000; ++block) {
      const float absmax = float_from_bits(0x3c000000u + random() % 0x04000000u);
      values.push_back(block % 2 == 0 ? absmax : -absmax);
      for (std::size_t i = 1; i < 64; ++i) {
        const float threshold = book.thresholds[i % static_cast<unsigned>(book.threshold_count)];
        const float exact = threshold * absmax * (book.signed_magnitude && i > 32 ? -1.0f : 1.0f);
        values.push_back(float_from_bits(std::bit_cast<std::uint32_t>(exact) + random() % 5 - 2));
      }
    }
    const Tensor tensor = tensor_of(values, DType::kF32, {static_cast<std::int64_t>(values.size())});
    for (const char* level : vector_levels()) {
      const ForcedLevel forced(level);
      INFO(level);
      check_block4(*make_cpu_quantizer(), tensor.view(), code, 64);
    }
  }
}

TEST_CASE("int8 kernels give the reference's bytes") {
  const std::vector<float> values = all_sorts(120000, 3);
  for (const char* level : vector_levels()) {
    const ForcedLevel forced(level);
    const auto quantizer = make_cpu_quantizer();
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
      for (const std::int64_t columns : {1, 15, 16, 17, 31, 32, 33, 64, 100, 333, 4096}) {
        const Shape shape{std::min<std::int64_t>(1000, 120000 / columns), columns};
        const Tensor tensor = tensor_of(values, dtype, shape);
        std::vector<std::int8_t> codes(static_cast<std::size_t>(tensor.count()), 99), expected(codes);
        std::vector<float> absmax(static_cast<std::size_t>(shape[0])), expected_absmax(absmax);
        quantizer->int8_rows(tensor.view(), codes, absmax);
        ReferenceQuantizer().int8_rows(tensor.view(), expected, expected_absmax);
        INFO(level << " " << info(dtype).name << " rows of " << columns);
        CHECK(codes == expected);
        CHECK(same_bits(absmax, expected_absmax));
      }
  }
}

TEST_CASE("int8 kernels round ties as the reference does") {
  std::vector<float> values;
  std::mt19937 random(4);
  for (int row = 0; row < 200; ++row) {
    Tensor absmax(DType::kF16, {1});
    absmax.as<std::uint16_t>()[0] = static_cast<std::uint16_t>(0x1000 + random() % 0x6800);
    const float largest = converted(absmax.view(), DType::kF32).as<float>()[0];
    values.push_back(largest);
    for (int i = 1; i < 256; ++i)  // ties of the rounding to integers, as far as float16 has them
      values.push_back(largest * (static_cast<float>(i) - 128.0f) / 254.0f);
  }
  const Tensor tensor = tensor_of(values, DType::kF32, {200, 256});
  std::vector<std::int8_t> expected(values.size()), codes(values.size());
  std::vector<float> expected_absmax(200), absmax(200);
  ReferenceQuantizer().int8_rows(tensor.view(), expected, expected_absmax);
  for (const char* level : vector_levels()) {
    const ForcedLevel forced(level);
    make_cpu_quantizer()->int8_rows(tensor.view(), codes, absmax);
    INFO(level);
    CHECK(codes == expected);
  }
}

TEST_CASE("QTOOL_CPU chooses the instruction set") {
  {
    const ForcedLevel forced("portable");
    CHECK(cpu_level() == CpuLevel::kPortable);
  }
  const ForcedLevel forced("sse9");
  CHECK_THROWS_AS(cpu_level(), Error);
}

}  // namespace
