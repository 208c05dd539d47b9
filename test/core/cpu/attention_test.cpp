// Attention on the CPU against plain double precision, at every level this machine has.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "core/error.h"
#include "test/core/cpu/backends.h"

namespace qtool {
namespace {

using namespace test;

// One sequence's queries, keys and values, and the plain way to attend.
struct Sequence {
  std::vector<float> q, k, v;  // [tokens, heads * dim], [tokens, kv_heads * dim]
};

struct Sizes {
  int heads, kv_heads, dim, rotary_dim;  // rotary_dim 0: none rotate
  RopePairs pairs = RopePairs::kHalves;
};

// Backend::AttentionOptions, with the slopes themselves.
struct Options {
  float scale = 0.1f, softcap = 0.0f;
  std::int64_t window = 0;
  std::vector<float> slopes = {};
  bool slopes_bfloat16 = false;
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
      const bool halves = sizes.pairs == RopePairs::kHalves;
      const std::size_t first = head * dim + (halves ? i : 2 * i);
      const std::size_t second = halves ? first + half : first + 1;
      out[first] = x[first] * cos - x[second] * sin;
      out[second] = x[second] * cos + x[first] * sin;
    }
  }
  return out;
}

// A score, from q * k to what goes into the softmax.
double adjusted(double product, const Options& options, int head, std::int64_t key, std::int64_t query) {
  double score = product * options.scale;
  if (options.softcap > 0.0f) score = options.softcap * std::tanh(score / options.softcap);
  if (options.slopes.empty()) return score;
  const float slope = options.slopes[static_cast<std::size_t>(head)];
  if (!options.slopes_bfloat16) return score + double{slope} * static_cast<double>(key - query);
  const float position = rounded(static_cast<float>(key), DType::kBF16);
  return score + double{options.scale} * double{rounded(slope * position, DType::kBF16)};
}

std::vector<double> attended(const Sequence& s, std::int64_t tokens, const Sizes& sizes,
                             const Options& options, DType dtype) {
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
      const std::int64_t begin = options.window > 0 ? std::max<std::int64_t>(0, t + 1 - options.window) : 0;
      for (std::int64_t p = begin; p <= t; ++p) {
        double score = 0.0;
        for (int d = 0; d < sizes.dim; ++d)
          score += double{query[d]} * double{k[static_cast<std::size_t>(offset(p) + d)]};
        weights.push_back(adjusted(score, options, h, p, t));
        highest = std::max(highest, weights.back());
      }
      double total = 0.0;
      for (double& weight : weights) total += weight = std::exp(weight - highest);
      for (int d = 0; d < sizes.dim; ++d) {
        double sum = 0.0;
        for (std::int64_t p = begin; p <= t; ++p)
          sum += weights[static_cast<std::size_t>(p - begin)] *
                 double{v[static_cast<std::size_t>(offset(p) + d)]};
        out.push_back(sum / total);
      }
    }
  }
  return out;
}

// Runs both sequences' tokens in steps of `step` tokens each and returns what attention gives for the first.
std::vector<float> run_attention(Backend& backend, const Sequence& first, const Sequence& second,
                                 std::int64_t tokens, std::int64_t step, const Sizes& sizes,
                                 const Options& options, DType dtype) {
  const std::int64_t q_cols = sizes.heads * sizes.dim;
  const std::int64_t kv_cols = sizes.kv_heads * sizes.dim;
  const auto rope = backend.make_rope(tokens, sizes.rotary_dim, sizes.pairs);
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
  std::unique_ptr<Backend::Table> slopes;
  if (!options.slopes.empty())
    slopes = backend.make_table(tensor_of(options.slopes, DType::kF32, {sizes.heads}));
  const Backend::AttentionOptions how{options.scale, options.softcap, options.window, slopes.get(),
                                      options.slopes_bfloat16};
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
    backend.rope_append(*q, *k, *v, sizes.rotary_dim > 0 ? rope.get() : nullptr, sizes.heads, segments, 1,
                        *cache);
    const Array out = backend.make_array(2 * count, q_cols);
    backend.attention(*q, *cache, 1, sizes.heads, how, segments, *out);
    const std::vector<float> rows = values_of(backend, *out, count, q_cols);
    result.insert(result.end(), rows.begin(), rows.end());
  }
  return result;
}

// Checks every way to cut 75 tokens into steps, in every type of cache, on every backend.
void check_attention(const Sizes& sizes, const Options& options) {
  constexpr std::int64_t kTokens = 75;
  Values values(9);
  const auto make = [&] {
    return Sequence{values.many(kTokens * sizes.heads * sizes.dim, 2.0f),
                    values.many(kTokens * sizes.kv_heads * sizes.dim, 2.0f),
                    values.many(kTokens * sizes.kv_heads * sizes.dim)};
  };
  const Sequence first = make();
  const Sequence second = make();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const std::vector<double> wanted = attended(first, kTokens, sizes, options, dtype);
    for (const auto& backend : backends()) {
      INFO(backend->name() << ", " << sizes.heads << " heads, " << sizes.kv_heads << " kv heads of "
                           << sizes.dim << ", window " << options.window << ", cache " << info(dtype).name);
      const std::vector<float> whole =
          run_attention(*backend, first, second, kTokens, kTokens, sizes, options, dtype);
      double worst = 0.0;
      for (std::size_t i = 0; i < wanted.size(); ++i)
        worst = std::max(worst, std::fabs(whole[i] - wanted[i]));
      // A key that rounds the other way (its rotation differs by a last bit) shows in narrow caches.
      CHECK(worst < (dtype == DType::kF32 ? 4e-6 : 5e-3));
      for (const std::int64_t step : {1, 7, 32})
        CHECK(run_attention(*backend, first, second, kTokens, step, sizes, options, dtype) == whole);
    }
  }
}

TEST_CASE("attention agrees with a plain softmax, however the tokens arrive") {
  for (const Sizes& sizes :
       {Sizes{6, 2, 20, 12}, Sizes{4, 4, 64, 64}, Sizes{40, 1, 32, 32}, Sizes{2, 1, 128, 64},
        Sizes{6, 2, 20, 0}, Sizes{6, 3, 20, 8, RopePairs::kNeighbours}})
    check_attention(sizes, Options{1.0f / std::sqrt(static_cast<float>(sizes.dim))});
}

TEST_CASE("a window ends at any distance, within a chunk of positions or beyond many") {
  for (const std::int64_t window : {1, 5, 32, 33, 74, 75, 100})
    check_attention({6, 2, 20, 12}, Options{0.2f, 0.0f, window});
}

TEST_CASE("soft caps and slopes bend the scores before the softmax") {
  const std::vector<float> slopes{0.5f, 0.31f, 0.125f, 0.0625f, 0.7f, 0.01f};
  check_attention({6, 2, 20, 12}, Options{0.3f, 2.0f});
  check_attention({6, 2, 20, 12}, Options{0.3f, 2.0f, 9, slopes});
  check_attention({6, 2, 20, 0}, Options{0.2f, 0.0f, 0, slopes});
  check_attention({6, 2, 20, 0}, Options{0.2f, 0.0f, 0, slopes, true});
}

TEST_CASE("segments outside the cache are refused") {
  const auto backend = make_cpu_backend(1);
  const auto cache = backend->make_cache(1, 1, 4, 1, 8, DType::kF32);
  const auto rope = backend->make_rope(4, 8, RopePairs::kHalves);
  const Array x = backend->make_array(2, 8);
  for (const Segment& segment : {Segment{1, 0, 1}, Segment{0, 3, 2}, Segment{-1, 0, 1}, Segment{0, -1, 1}}) {
    const std::vector<Segment> segments{segment};
    CHECK_THROWS_AS(backend->rope_append(*x, *x, *x, rope.get(), 1, segments, 0, *cache), Error);
    CHECK_THROWS_AS(backend->attention(*x, *cache, 0, 1, {}, segments, *x), Error);
  }
}

}  // namespace
}  // namespace qtool
