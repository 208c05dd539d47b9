// The operations of the CPU backend against plain double precision, at every level this machine has.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "core/cpu/cpu_backend.h"
#include "core/error.h"
#include "test/core/cpu/support.h"

namespace qtool {
namespace {

using namespace test;
using Array = std::unique_ptr<Backend::Array>;

// A backend for every level, chosen as a user would.
std::vector<std::unique_ptr<Backend>> backends() {
  std::vector<std::unique_ptr<Backend>> all;
  const char* asked = std::getenv("QTOOL_CPU");
  const std::string before = asked ? asked : "";
  for (const char* level : {"portable", "avx2", "avx512"}) {
    setenv("QTOOL_CPU", level, 1);
    try {
      all.push_back(make_cpu_backend(2));
    } catch (const Error&) {
      WARN("SKIPPED: this machine has no " << level);
    }
  }
  if (asked)
    setenv("QTOOL_CPU", before.c_str(), 1);
  else
    unsetenv("QTOOL_CPU");
  return all;
}

Array array_of(Backend& backend, const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  const auto table = backend.make_table(tensor_of(values, DType::kF32, {rows, cols}));
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r));
  Array array = backend.make_array(rows, cols);
  backend.embed(*table, ids, *array);
  return array;
}

std::vector<float> values_of(Backend& backend, const Backend::Array& array, std::int64_t rows,
                             std::int64_t cols) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  backend.read(array, rows, values);
  return values;
}

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

TEST_CASE("rms_norm divides by the root of the mean square") {
  constexpr std::int64_t kCols = 333;
  const std::vector<float> x = Values(2).many(3 * kCols, 4.0f);
  const std::vector<float> weight = Values(3).many(kCols);
  for (const auto& backend : backends())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Array in = array_of(*backend, x, 3, kCols);
      const auto table = backend->make_table(tensor_of(weight, dtype, {kCols}));
      const Array out = backend->make_array(3, kCols);
      backend->rms_norm(*in, *table, 1e-5f, 3, *out);
      const std::vector<float> got = values_of(*backend, *out, 3, kCols);
      for (std::size_t r = 0; r < 3; ++r) {
        double squares = 0.0;
        for (std::size_t i = 0; i < kCols; ++i)
          squares += double{x[r * kCols + i]} * double{x[r * kCols + i]};
        const double factor = 1.0 / std::sqrt(squares / kCols + 1e-5);
        double worst = 0.0;
        for (std::size_t i = 0; i < kCols; ++i) {
          const double wanted = double{x[r * kCols + i]} * factor * double{rounded(weight[i], dtype)};
          worst = std::max(worst, std::fabs(got[r * kCols + i] - wanted) / (std::fabs(wanted) + 1e-6));
        }
        CHECK(worst < 4e-7);
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
  };
  std::vector<float> x = Values(4).many(5000, 5.0f);
  x[0] = 200.0f;
  x[1] = -200.0f;
  const std::vector<float> up = Values(5).many(5000);
  for (const auto& backend : backends())
    for (const Case& c : cases) {
      const Array gate = array_of(*backend, x, 5, 1000);
      const Array other = array_of(*backend, up, 5, 1000);
      backend->gate(*gate, *other, c.activation, 5);
      const std::vector<float> got = values_of(*backend, *gate, 5, 1000);
      double worst = 0.0;
      for (std::size_t i = 0; i < x.size(); ++i)
        worst = std::max(worst, std::fabs(got[i] - c.function(x[i]) * up[i]) / (1.0 + std::fabs(x[i])));
      CHECK(worst < 3e-7);
    }
}

TEST_CASE("add and gather move rows") {
  for (const auto& backend : backends()) {
    const Array x = array_of(*backend, {1, 2, 3, 4, 5, 6}, 3, 2);
    const Array y = array_of(*backend, {10, 20, 30, 40, 50, 60}, 3, 2);
    backend->add(*x, *y, 2);
    CHECK(values_of(*backend, *x, 3, 2) == std::vector<float>{11, 22, 33, 44, 5, 6});
    const Array out = backend->make_array(2, 2);
    const std::vector<std::int64_t> rows{2, 0};
    backend->gather(*x, rows, *out);
    CHECK(values_of(*backend, *out, 2, 2) == std::vector<float>{5, 6, 11, 22});
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

// One sequence's queries, keys and values, and the plain way to attend.
struct Sequence {
  std::vector<float> q, k, v;  // [tokens, heads * dim], [tokens, kv_heads * dim]
};

struct Sizes {
  int heads, kv_heads, dim, rotary_dim;
};

constexpr double kAngleStep = 0.7;

// [tokens, heads * dim] with the leading rotary_dim columns of every head rotated by their position.
std::vector<float> rotated(const std::vector<float>& x, int heads, const Sizes& sizes) {
  std::vector<float> out = x;
  const auto dim = static_cast<std::size_t>(sizes.dim);
  const auto half = static_cast<std::size_t>(sizes.rotary_dim / 2);
  for (std::size_t head = 0; head < x.size() / dim; ++head) {
    const auto position = static_cast<double>(head / static_cast<std::size_t>(heads));
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = position * std::pow(kAngleStep, static_cast<double>(i));
      const auto cos = static_cast<float>(std::cos(angle));
      const auto sin = static_cast<float>(std::sin(angle));
      const float a = x[head * dim + i];
      const float b = x[head * dim + i + half];
      out[head * dim + i] = a * cos - b * sin;
      out[head * dim + i + half] = b * cos + a * sin;
    }
  }
  return out;
}

std::vector<double> attended(const Sequence& s, std::int64_t tokens, const Sizes& sizes, float scale,
                             DType dtype) {
  const std::vector<float> q = rotated(s.q, sizes.heads, sizes);
  std::vector<float> k = rotated(s.k, sizes.kv_heads, sizes);
  std::vector<float> v = s.v;
  for (float& value : k) value = rounded(value, dtype);
  for (float& value : v) value = rounded(value, dtype);
  std::vector<double> out;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (int h = 0; h < sizes.heads; ++h) {
      const int kv_head = h / (sizes.heads / sizes.kv_heads);
      const float* query = q.data() + (t * sizes.heads + h) * sizes.dim;
      const auto offset = [&](std::int64_t p) { return (p * sizes.kv_heads + kv_head) * sizes.dim; };
      std::vector<double> weights;
      double highest = -1e300;
      for (std::int64_t p = 0; p <= t; ++p) {
        double score = 0.0;
        for (int d = 0; d < sizes.dim; ++d)
          score += double{query[d]} * double{k[static_cast<std::size_t>(offset(p) + d)]};
        weights.push_back(score * scale);
        highest = std::max(highest, weights.back());
      }
      double total = 0.0;
      for (double& weight : weights) total += weight = std::exp(weight - highest);
      for (int d = 0; d < sizes.dim; ++d) {
        double sum = 0.0;
        for (std::int64_t p = 0; p <= t; ++p)
          sum += weights[static_cast<std::size_t>(p)] * double{v[static_cast<std::size_t>(offset(p) + d)]};
        out.push_back(sum / total);
      }
    }
  }
  return out;
}

// Runs both sequences' tokens in steps of `step` tokens each and returns what attention gives for the first.
std::vector<float> run_attention(Backend& backend, const Sequence& first, const Sequence& second,
                                 std::int64_t tokens, std::int64_t step, const Sizes& sizes, float scale,
                                 DType dtype) {
  const std::int64_t q_cols = sizes.heads * sizes.dim;
  const std::int64_t kv_cols = sizes.kv_heads * sizes.dim;
  const auto rope = backend.make_rope(tokens, sizes.rotary_dim);
  std::vector<float> cos, sin;
  for (std::int64_t p = 0; p < tokens; ++p)
    for (int i = 0; i < sizes.rotary_dim / 2; ++i) {
      const double angle = static_cast<double>(p) * std::pow(kAngleStep, i);
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  backend.set_rope(*rope, 0, cos, sin);
  const auto cache = backend.make_cache(2, 3, tokens, sizes.kv_heads, sizes.dim, dtype);
  CHECK(cache->bytes() == 2 * 2 * 3 * tokens * kv_cols * size_of(dtype));
  std::vector<float> result;
  for (std::int64_t begin = 0; begin < tokens; begin += step) {
    const std::int64_t count = std::min(step, tokens - begin);
    const auto both = [&](const std::vector<float>& a, const std::vector<float>& b, std::int64_t cols) {
      std::vector<float> rows(a.begin() + begin * cols, a.begin() + (begin + count) * cols);
      rows.insert(rows.end(), b.begin() + begin * cols, b.begin() + (begin + count) * cols);
      return array_of(backend, rows, 2 * count, cols);
    };
    const Array q = both(first.q, second.q, q_cols);
    const Array k = both(first.k, second.k, kv_cols);
    const Array v = both(first.v, second.v, kv_cols);
    const std::vector<Segment> segments{{2, begin, count}, {0, begin, count}};
    backend.rope_append(*q, *k, *v, *rope, sizes.heads, segments, 1, *cache);
    const Array out = backend.make_array(2 * count, q_cols);
    backend.attention(*q, *cache, 1, sizes.heads, scale, segments, *out);
    const std::vector<float> rows = values_of(backend, *out, count, q_cols);
    result.insert(result.end(), rows.begin(), rows.end());
  }
  return result;
}

TEST_CASE("attention agrees with a plain softmax, however the tokens arrive") {
  constexpr std::int64_t kTokens = 75;
  for (const Sizes& sizes :
       {Sizes{6, 2, 20, 12}, Sizes{4, 4, 64, 64}, Sizes{40, 1, 32, 32}, Sizes{2, 1, 128, 64}}) {
    Values values(9);
    const auto make = [&] {
      return Sequence{values.many(kTokens * sizes.heads * sizes.dim, 2.0f),
                      values.many(kTokens * sizes.kv_heads * sizes.dim, 2.0f),
                      values.many(kTokens * sizes.kv_heads * sizes.dim)};
    };
    const Sequence first = make();
    const Sequence second = make();
    const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.dim));
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const std::vector<double> wanted = attended(first, kTokens, sizes, scale, dtype);
      for (const auto& backend : backends()) {
        INFO(backend->name() << ", " << sizes.heads << " heads, " << sizes.kv_heads << " kv heads of "
                             << sizes.dim << ", cache " << info(dtype).name);
        const std::vector<float> whole =
            run_attention(*backend, first, second, kTokens, kTokens, sizes, scale, dtype);
        double worst = 0.0;
        for (std::size_t i = 0; i < wanted.size(); ++i)
          worst = std::max(worst, std::fabs(whole[i] - wanted[i]));
        // A key that rounds the other way (its rotation differs by a last bit) shows in narrow caches.
        CHECK(worst < (dtype == DType::kF32 ? 2e-6 : 5e-3));
        for (const std::int64_t step : {1, 7, 32})
          CHECK(run_attention(*backend, first, second, kTokens, step, sizes, scale, dtype) == whole);
      }
    }
  }
}

TEST_CASE("segments outside the cache are refused") {
  const auto backend = make_cpu_backend(1);
  const auto cache = backend->make_cache(1, 1, 4, 1, 8, DType::kF32);
  const auto rope = backend->make_rope(4, 8);
  const Array x = backend->make_array(2, 8);
  for (const Segment& segment : {Segment{1, 0, 1}, Segment{0, 3, 2}, Segment{-1, 0, 1}, Segment{0, -1, 1}}) {
    const std::vector<Segment> segments{segment};
    CHECK_THROWS_AS(backend->rope_append(*x, *x, *x, *rope, 1, segments, 0, *cache), Error);
    CHECK_THROWS_AS(backend->attention(*x, *cache, 0, 1, 1.0f, segments, *x), Error);
  }
}

}  // namespace
}  // namespace qtool
