// Isolated tokens: a linear layer gives each token, in any company, the bits it gives the token alone.
#include <catch2/catch.hpp>
#include <string>

#include "test/core/cpu/support.h"

namespace qtool {
namespace {

using namespace test;

constexpr std::int64_t kTokens = 70;

void check_isolated(const cpu::CpuLinear& layer) {
  std::vector<float> x = Values(7).many(kTokens * layer.in);
  for (std::int64_t t = 0; t < kTokens; t += 3)  // outliers, of each of these tokens in other columns
    x[static_cast<std::size_t>(t * layer.in + t % layer.in)] = 9.0f;
  for (const cpu::CpuKernels& kernels : cpu::available_kernels()) {
    cpu::LinearRunner runner(kernels.functions, 2);
    std::vector<float> alone(static_cast<std::size_t>(kTokens * layer.out));
    for (std::int64_t t = 0; t < kTokens; ++t)
      runner.run(layer, x.data() + t * layer.in, 1, alone.data() + t * layer.out);
    runner.isolate_tokens();
    for (const std::int64_t tokens : {std::int64_t{2}, std::int64_t{5}, std::int64_t{9}, kTokens}) {
      std::vector<float> together(static_cast<std::size_t>(tokens * layer.out));
      runner.run(layer, x.data(), tokens, together.data());
      INFO("kernels " << kernels.name << ", " << tokens << " tokens");
      CHECK(std::equal(together.begin(), together.end(), alone.begin()));
    }
  }
}

TEST_CASE("isolated tokens do not feel their company, whatever the weight") {
  for (const DType compute : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const QuantMethod method : {QuantMethod::kNone, QuantMethod::kBlock4, QuantMethod::kInt8})
      for (const Shape& shape : {Shape{70, 256}, Shape{33, 97}}) {
        QuantSpec spec;
        spec.method = method;
        INFO(scheme_name(spec) << ", " << info(compute).name << ", [" << shape[0] << ", " << shape[1] << "]");
        check_isolated(layer_of(random_weight(shape, spec, 11), std::nullopt, compute));
      }
  }
}

}  // namespace
}  // namespace qtool
