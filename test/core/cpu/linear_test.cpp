// Linear layers: every kernel row of this machine against sums in double precision.
#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "test/core/cpu/support.h"

namespace qtool {
namespace {

using namespace test;

constexpr std::int64_t kBatches[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 129};
constexpr std::int64_t kMostTokens = 129;

// Every kernel and batch. A kernel either rounds a packed weight's values to the compute type or multiplies
// the exact ones (Direct4Functions::rounds_weights); all results of a product must follow the same of the
// two.
void check_all_kernels(const cpu::CpuLinear& layer) {
  const std::vector<float> x = Values(7).many(kMostTokens * layer.in);
  const bool packed4 = std::holds_alternative<Block4Weight>(layer.weight);
  std::vector<std::vector<Exact>> definitions{exact_products(layer, x, kMostTokens, layer.compute)};
  if (packed4 && layer.compute != DType::kF32)
    definitions.push_back(exact_products(layer, x, kMostTokens, DType::kF32));
  for (const cpu::CpuKernels& kernels : cpu::available_kernels()) {
    cpu::LinearRunner one(kernels.functions, 1);
    cpu::LinearRunner three(kernels.functions, 3);
    for (const std::int64_t tokens : kBatches) {
      std::vector<float> out(static_cast<std::size_t>(tokens * layer.out), -1.0f);
      one.run(layer, x.data(), tokens, out.data());
      std::size_t wrong = out.size();
      for (const std::vector<Exact>& exact : definitions) {
        std::size_t differing = 0;
        for (std::size_t i = 0; i < out.size(); ++i)
          differing += agrees(out[i], exact[i], layer.compute) ? 0 : 1;
        wrong = std::min(wrong, differing);
      }
      std::vector<float> shared(out.size(), -1.0f);
      three.run(layer, x.data(), tokens, shared.data());
      INFO("kernels " << kernels.name << ", " << tokens << " tokens");
      CHECK(wrong == 0);
      CHECK(out == shared);
    }
  }
}

struct Case {
  Shape shape;
  int block_size;
};

TEST_CASE("4-bit layers agree with dequantized products, whatever shape, code, block and type") {
  // Rows of whole blocks; blocks that run across rows; odd rows, which start in the middle of a byte; tails.
  const Case cases[] = {{{5, 64}, 64},    {{33, 128}, 64},   {{6, 192}, 64},    {{18, 576}, 32},
                        {{3, 4160}, 64},  {{4, 512}, 256},   {{4, 3072}, 1024}, {{3, 2048}, 2048},
                        {{9, 160}, 64},   {{7, 97}, 64},     {{5, 33}, 32},     {{40, 128}, 128},
                        {{3, 512}, 4096}, {{2, 4096}, 4096}, {{1, 1}, 64},      {{70, 96}, 512}};
  for (const Case& shape : cases) {
    for (const Code4 code : {Code4::kNf4, Code4::kFp4}) {
      for (const bool nested : {false, true}) {
        for (const DType compute : {DType::kBF16, DType::kF16, DType::kF32}) {
          QuantSpec spec;
          spec.method = QuantMethod::kBlock4;
          spec.code = code;
          spec.block_size = shape.block_size;
          spec.nested = nested;
          INFO("[" << shape.shape[0] << ", " << shape.shape[1] << "], blocks of " << shape.block_size << ", "
                   << scheme_name(spec) << ", " << info(compute).name);
          const bool with_bias = shape.shape[1] % 128 == 0;
          std::optional<Tensor> bias;
          if (with_bias)
            bias = tensor_of(Values(3).many(shape.shape[0]), nested ? DType::kF32 : DType::kBF16,
                             {shape.shape[0]});
          check_all_kernels(layer_of(random_weight(shape.shape, spec, 11), std::move(bias), compute));
        }
      }
    }
  }
}

TEST_CASE("more than 256 blocks use every nested absmax") {
  QuantSpec spec;
  spec.method = QuantMethod::kBlock4;
  spec.nested = true;
  check_all_kernels(layer_of(random_weight({12, 64 * 44}, spec, 5), std::nullopt, DType::kBF16));
  check_all_kernels(layer_of(random_weight({11, 64 * 101}, spec, 6), std::nullopt, DType::kF32));
}

TEST_CASE("dense layers agree with exact products") {
  for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16})
    for (const DType compute : {DType::kF32, DType::kBF16, DType::kF16})
      for (const Shape& shape : {Shape{1, 1}, Shape{37, 64}, Shape{8, 1031}, Shape{65, 19}}) {
        INFO(info(stored).name << " weights, " << info(compute).name << " products, [" << shape[0] << ", "
                               << shape[1] << "]");
        std::optional<Tensor> bias = tensor_of(Values(3).many(shape[0]), stored, {shape[0]});
        check_all_kernels(layer_of(random_weight(shape, QuantSpec{}, 2, stored), std::move(bias), compute));
      }
}

TEST_CASE("decoded values are those of the reference, bit for bit") {
  for (const Case& shape :
       {Case{{5, 64}, 64}, Case{{7, 97}, 64}, Case{{3, 160}, 32}, Case{{3, 4098}, 4096}}) {
    for (const DType compute : {DType::kBF16, DType::kF16, DType::kF32}) {
      QuantSpec spec;
      spec.method = QuantMethod::kBlock4;
      spec.code = Code4::kFp4;
      spec.block_size = shape.block_size;
      spec.nested = compute != DType::kF16;
      Weight weight = random_weight(shape.shape, spec, 9);
      auto& block4 = std::get<Block4Weight>(weight);
      // Values that vanish, and that are not numbers.
      if (!spec.nested) {
        block4.absmax.as<float>()[0] = 0x1p-126f;
        block4.absmax.as<float>().back() = 0x1.8p-126f;
      }
      const Tensor expected = dequantize(weight, compute);
      std::vector<float> wanted(static_cast<std::size_t>(expected.count()));
      to_float32(expected.data(), compute, expected.count(), wanted.data());
      const cpu::Block4Rows rows = cpu::rows_of(block4, compute);
      for (const cpu::CpuKernels& kernels : cpu::available_kernels()) {
        int wrong = 0;
        for (const std::int64_t first : {0, 1, 31, 63, 64, 100}) {
          const std::int64_t count = expected.count() - first;
          if (count <= 0) continue;
          std::vector<float> values(static_cast<std::size_t>(count));
          kernels.functions.decode4(rows, first, count, values.data());
          for (std::size_t i = 0; i < values.size(); ++i)
            wrong += std::bit_cast<std::uint32_t>(values[i]) !=
                             std::bit_cast<std::uint32_t>(wanted[i + static_cast<std::size_t>(first)])
                         ? 1
                         : 0;
        }
        INFO("kernels " << kernels.name << ", " << info(compute).name << ", blocks of " << shape.block_size);
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("rounding keeps infinities and NaN and ties to even") {
  std::vector<float> values = Values(1).many(1000, 1000.0f);
  for (const std::uint32_t bits :
       {0x7f800000u, 0xff800000u, 0x7f800001u, 0x7fffffffu, 0xffffffffu, 0x3f808000u, 0x3f818000u,
        0x7f7fffffu, 0x00000001u, 0x477fefffu, 0x477ff000u, 0x33000001u})
    values.push_back(std::bit_cast<float>(bits));
  for (const cpu::CpuKernels& kernels : cpu::available_kernels())
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      std::vector<float> out = values;
      kernels.functions.round(out.data(), static_cast<std::int64_t>(out.size()), dtype);
      int wrong = 0;
      for (std::size_t i = 0; i < out.size(); ++i)
        wrong +=
            std::bit_cast<std::uint32_t>(out[i]) != std::bit_cast<std::uint32_t>(rounded(values[i], dtype))
                ? 1
                : 0;
      INFO("kernels " << kernels.name << ", " << info(dtype).name);
      CHECK(wrong == 0);
    }
}

}  // namespace
}  // namespace qtool
