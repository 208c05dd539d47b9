// What the CPU backend holds, at every level this machine has, and what it refuses.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "core/error.h"
#include "test/core/cpu/backends.h"

namespace qtool {
namespace {

using namespace test;

TEST_CASE("embed widens rows and refuses ids outside the vocabulary") {
  for (const auto& backend : backends())
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const std::vector<float> values = Values(1).many(5 * 7);
      const auto table = backend->make_table(tensor_of(values, dtype, {5, 7}));
      CHECK(table->bytes() == 35 * size_of(dtype));
      const Array out = backend->make_array(2, 7);
      const std::vector<std::int32_t> ids{4, 0};
      backend->embed(*table, ids, *out);
      const std::vector<float> got = values_of(*backend, *out, 2, 7);
      for (std::size_t i = 0; i < 7; ++i) {
        CHECK(got[i] == rounded(values[28 + i], dtype));
        CHECK(got[7 + i] == rounded(values[i], dtype));
      }
      for (const std::int32_t bad : {-1, 5}) {
        const std::vector<std::int32_t> wrong{bad};
        CHECK_THROWS_WITH(backend->embed(*table, wrong, *out),
                          Catch::Contains("outside the vocabulary of 5"));
      }
    }
}

TEST_CASE("a tied head multiplies with the embedding and owns no memory") {
  for (const auto& backend : backends()) {
    const std::vector<float> values = Values(6).many(9 * 40);
    const auto table = backend->make_table(tensor_of(values, DType::kBF16, {9, 40}));
    const auto head = backend->make_tied_head(*table, DType::kF32);
    CHECK(head->bytes() == 0);
    DenseWeight weight{tensor_of(values, DType::kBF16, {9, 40})};
    const auto linear = backend->make_linear(std::move(weight), std::nullopt, DType::kF32);
    CHECK(linear->bytes() == 9 * 40 * 2);
    const Array x = array_of(*backend, Values(7).many(3 * 40), 3, 40);
    const Array a = backend->make_array(3, 9);
    const Array b = backend->make_array(3, 9);
    backend->linear(*x, *head, 3, *a);
    backend->linear(*x, *linear, 3, *b);
    CHECK(values_of(*backend, *a, 3, 9) == values_of(*backend, *b, 3, 9));
  }
}

TEST_CASE("a linear layer holds the packed pieces and its bias, and nothing else") {
  for (const bool nested : {false, true}) {
    QuantSpec spec;
    spec.method = QuantMethod::kBlock4;
    spec.nested = nested;
    Weight weight = random_weight({33, 128}, spec, 1);
    const std::int64_t bytes = bytes_of(weight);
    const auto backend = make_cpu_backend(1);
    const auto linear = backend->make_linear(std::move(weight),
                                             tensor_of(Values(1).many(33), DType::kBF16, {33}), DType::kBF16);
    CHECK(linear->bytes() == bytes + 66);
  }
}

TEST_CASE("impossible requests are errors, not crashes") {
  const auto backend = make_cpu_backend(1);
  CHECK_THROWS_AS(backend->make_array(std::int64_t{1} << 40, std::int64_t{1} << 40), Error);
  CHECK_THROWS_WITH(backend->make_array(std::int64_t{1} << 24, std::int64_t{1} << 24),
                    Catch::Contains("free"));
  CHECK_THROWS_AS(backend->make_table(Tensor(DType::kI32, {4})), Error);
  CHECK_THROWS_AS(backend->make_cache(1, 1, 8, 1, 8, DType::kI8), Error);
  DenseWeight weight{tensor_of(Values(1).many(8), DType::kF32, {2, 4})};
  CHECK_THROWS_AS(backend->make_linear(std::move(weight), std::nullopt, DType::kF64), Error);
}

}  // namespace
}  // namespace qtool
