// The operations of the CPU backend on elements and rows against plain double precision, at every level this
// machine has.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "core/error.h"
#include "test/core/cpu/backends.h"

namespace qtool {
namespace {

using namespace test;

// The definition of Backend::Norm in double precision, for one piece of a row.
void check_norm(const float* x, const float* found, std::size_t count, NormKind kind, const float* weight,
                float offset, const float* bias) {
  double mean = 0.0, squares = 0.0;
  if (kind == NormKind::kLayer)
    for (std::size_t i = 0; i < count; ++i) mean += double{x[i]} / static_cast<double>(count);
  for (std::size_t i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(count) + 1e-5);
  double worst = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    const double standard = (x[i] - mean) * factor;
    const double scaled = standard * (weight ? double{weight[i]} + offset : 1.0);
    const double wanted = scaled + (bias ? bias[i] : 0.0f);
    worst = std::max(worst, std::fabs(found[i] - wanted) / (1.0 + std::fabs(scaled)));
  }
  CHECK(worst < 6e-7);
}

TEST_CASE("norms of both kinds scale and shift, with and without their tables") {
  constexpr std::int64_t kCols = 333;
  std::vector<float> x = Values(2).many(3 * kCols, 4.0f);
  for (std::size_t i = kCols; i < 2 * kCols; ++i) x[i] += 30.0f;  // a row far from mean 0
  const std::vector<float> weight = Values(3).many(kCols), bias = Values(4).many(kCols);
  for (const auto& backend : backends())
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
        for (const float offset : {0.0f, 1.0f})
          for (const int tables : {0, 1, 2}) {
            std::vector<float> w = weight, b = bias;
            for (float& value : w) value = rounded(value, dtype);
            for (float& value : b) value = rounded(value, dtype);
            const auto w_table = backend->make_table(tensor_of(weight, dtype, {kCols}));
            const auto b_table = backend->make_table(tensor_of(bias, dtype, {kCols}));
            const Backend::Norm norm{kind, 1e-5f, tables > 0 ? w_table.get() : nullptr, offset,
                                     tables > 1 ? b_table.get() : nullptr};
            const Array in = array_of(*backend, x, 3, kCols);
            const Array out = backend->make_array(3, kCols);
            backend->norm(*in, norm, 3, *out);
            const std::vector<float> got = values_of(*backend, *out, 3, kCols);
            for (std::size_t r = 0; r < 3; ++r)
              check_norm(x.data() + r * kCols, got.data() + r * kCols, kCols, kind,
                         tables > 0 ? w.data() : nullptr, offset, tables > 1 ? b.data() : nullptr);
            backend->norm(*in, norm, 3, *in);
            CHECK(values_of(*backend, *in, 3, kCols) == got);
          }
}

TEST_CASE("a norm of groups takes every piece of a row by itself") {
  constexpr int kGroups = 5;
  constexpr std::size_t kPiece = 300, kCols = kGroups * kPiece;  // more than are widened at a time
  const std::vector<float> x = Values(5).many(2 * kCols, 3.0f);
  const std::vector<float> weight = Values(6).many(kCols), bias = Values(7).many(kCols);
  for (const auto& backend : backends())
    for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
      for (const bool own : {false, true}) {  // every group's tables its own, or one for all
        const std::size_t count = own ? kCols : kPiece;
        const auto part = [&](const std::vector<float>& values) {
          const std::vector<float> first(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
          return backend->make_table(tensor_of(first, DType::kF32, {static_cast<std::int64_t>(count)}));
        };
        const auto w_table = part(weight), b_table = part(bias);
        const Array array = array_of(*backend, x, 2, kCols);
        backend->norm_groups(*array, {kind, 1e-5f, w_table.get(), 0.0f, b_table.get()}, kGroups, 2);
        const std::vector<float> got = values_of(*backend, *array, 2, kCols);
        for (std::size_t piece = 0; piece < 2 * kGroups; ++piece) {
          const std::size_t table = own ? piece % kGroups * kPiece : 0;
          check_norm(x.data() + piece * kPiece, got.data() + piece * kPiece, kPiece, kind,
                     weight.data() + table, 0.0f, bias.data() + table);
        }
      }
}

TEST_CASE("gate multiplies the activation with up") {
  struct Case {
    Activation activation;
    double (*function)(double);
  };
  const Case cases[] = {
      {Activation::kSilu, [](double x) { return x / (1.0 + std::exp(-x)); }},
      {Activation::kGeluErf, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }},
      {Activation::kGeluTanh,
       [](double x) {
         return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
       }},
      {Activation::kRelu, [](double x) { return std::max(x, 0.0); }},
      {Activation::kRelu2, [](double x) { return std::max(x, 0.0) * std::max(x, 0.0); }},
      {Activation::kQuickGelu, [](double x) { return x / (1.0 + std::exp(-1.702 * x)); }},
  };
  std::vector<float> x = Values(4).many(5000, 5.0f);
  x[0] = 200.0f;
  x[1] = -200.0f;
  const std::vector<float> up = Values(5).many(5000);
  for (const auto& backend : backends())
    for (const Case& c : cases) {
      const Array gate = array_of(*backend, x, 5, 1000);
      const Array other = array_of(*backend, up, 5, 1000);
      backend->gate(*gate, other.get(), c.activation, 5);
      const std::vector<float> got = values_of(*backend, *gate, 5, 1000);
      double worst = 0.0;
      const Array alone = array_of(*backend, x, 5, 1000);
      backend->gate(*alone, nullptr, c.activation, 5);
      const std::vector<float> ungated = values_of(*backend, *alone, 5, 1000);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double wanted = c.function(x[i]);
        const double size = 1.0 + std::max(std::fabs(x[i]), static_cast<float>(std::fabs(wanted)));
        worst = std::max(worst, std::fabs(got[i] - wanted * up[i]) / size);
        worst = std::max(worst, std::fabs(ungated[i] - wanted) / size);
      }
      CHECK(worst < 3e-7);
    }
}

TEST_CASE("rows are added, scaled, limited and moved as they are asked to") {
  using Floats = std::vector<float>;
  for (const auto& backend : backends()) {
    const Array x = array_of(*backend, {1, 2, 3, 4, 5, 6}, 3, 2);
    const Array y = array_of(*backend, {10, 20, 30, 40, 50, 60}, 3, 2);
    const auto now = [&] { return values_of(*backend, *x, 3, 2); };
    backend->add(*x, *y, 1.0f, 2);
    CHECK(now() == Floats{11, 22, 33, 44, 5, 6});
    backend->add(*x, *y, 0.5f, 1);
    CHECK(now() == Floats{16, 32, 33, 44, 5, 6});
    backend->scale(*x, -2.0f, 2);
    CHECK(now() == Floats{-32, -64, -66, -88, 5, 6});
    backend->clamp(*x, 65.0f, 2);
    CHECK(now() == Floats{-32, -64, -65, -65, 5, 6});
    backend->clear(*x, 1);
    CHECK(now() == Floats{0, 0, -65, -65, 5, 6});
    const std::vector<std::int64_t> places{2, 0};
    const Floats weights{0.5f, 2.0f};
    backend->scatter_add(*y, places, weights, *x);
    CHECK(now() == Floats{60, 80, -65, -65, 10, 16});
    const Array out = backend->make_array(2, 2);
    backend->gather(*x, places, *out);
    CHECK(values_of(*backend, *out, 2, 2) == Floats{10, 16, 60, 80});
  }
}

TEST_CASE("a soft cap bends large values and keeps small ones") {
  const std::vector<float> x = Values(8).many(5000, 20.0f);
  for (const auto& backend : backends()) {
    const Array array = array_of(*backend, x, 5, 1000);
    backend->softcap(*array, 30.0f, 5);
    const std::vector<float> got = values_of(*backend, *array, 5, 1000);
    double worst = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, std::fabs(got[i] - 30.0 * std::tanh(x[i] / 30.0)));
    CHECK(worst < 5e-6);
  }
}

TEST_CASE("learned positions are those of each token in its sequence") {
  const std::vector<float> table_values = Values(9).many(9 * 3), x = Values(10).many(4 * 3);
  for (const auto& backend : backends())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const auto table = backend->make_table(tensor_of(table_values, dtype, {9, 3}));
      const Array array = array_of(*backend, x, 4, 3);
      const std::vector<Segment> segments{{0, 5, 2}, {1, 0, 1}, {2, 4, 1}};
      backend->add_positions(*array, *table, 2, segments);
      const std::vector<float> got = values_of(*backend, *array, 4, 3);
      const std::size_t rows[] = {7, 8, 2, 6};
      for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t c = 0; c < 3; ++c)
          CHECK(got[r * 3 + c] == x[r * 3 + c] + rounded(table_values[rows[r] * 3 + c], dtype));
      const std::vector<Segment> beyond{{0, 6, 2}};
      CHECK_THROWS_AS(backend->add_positions(*array, *table, 2, beyond), Error);
    }
}

TEST_CASE("fused projections come apart group by group") {
  for (const auto& backend : backends()) {
    // Two rows of two groups [a a | b | c].
    const Array fused = array_of(*backend, {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18}, 2, 8);
    const Array a = backend->make_array(2, 4), b = backend->make_array(2, 2), c = backend->make_array(2, 2);
    Backend::Array* const parts[] = {a.get(), b.get(), c.get()};
    backend->split(*fused, 2, 2, parts);
    CHECK(values_of(*backend, *a, 2, 4) == std::vector<float>{1, 2, 5, 6, 11, 12, 15, 16});
    CHECK(values_of(*backend, *b, 2, 2) == std::vector<float>{3, 7, 13, 17});
    CHECK(values_of(*backend, *c, 2, 2) == std::vector<float>{4, 8, 14, 18});
    backend->split(*fused, 1, 2, parts);
    CHECK(values_of(*backend, *a, 2, 4) == std::vector<float>{1, 2, 3, 4, 11, 12, 13, 14});
    CHECK(values_of(*backend, *c, 2, 2) == std::vector<float>{7, 8, 17, 18});
    CHECK_THROWS_AS(backend->split(*fused, 1, 2, std::span(parts).first(2)), Error);
  }
}

}  // namespace
}  // namespace qtool
