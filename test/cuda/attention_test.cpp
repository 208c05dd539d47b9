// Attention and the cache against the CPU's: head sizes, groups, windows, caps, slopes, splits.
#include <iterator>

#include "test/cuda/sides.h"

namespace qtool {
namespace {

using test::copy_of;
using test::distance;
using test::floats;
using test::random_tensor;
using test::Side;
using test::Sides;
using test::tolerance;

struct AttentionCase {
  int heads, kv_heads, head_dim, rotary_dim;  // rotary_dim 0: nothing rotates
  std::vector<Segment> before, segments;      // filled first; then compared
  std::int64_t window = 0;
  float softcap = 0.0f;
  int slopes = 0;  // 1: linear; 2: as Falcon rounds them
  RopePairs pairs = RopePairs::kHalves;
};

// `type` of queries and what comes out, `cached` of the cache. `fused`: by the block of both operations. What
// it left in the cache is seen by another attention over the same positions.
std::vector<float> attend(const Side& side, const AttentionCase& c, DType type, DType cached, bool fused) {
  Backend& backend = *side.backend;
  constexpr std::int64_t kPositions = 1600;
  constexpr int kSequences = 5;
  const auto cache = backend.make_cache(2, kSequences, kPositions, c.kv_heads, c.head_dim, cached);
  std::unique_ptr<Backend::Rope> rope;
  if (c.rotary_dim > 0) {
    rope = backend.make_rope(kPositions, c.rotary_dim, c.pairs);
    const Tensor angles = random_tensor(DType::kF32, {kPositions * (c.rotary_dim / 2)}, 3);
    std::vector<float> cos = floats(angles), sin = cos;
    for (std::size_t i = 0; i < cos.size(); ++i) {
      sin[i] = std::sin(cos[i]);
      cos[i] = std::cos(cos[i]);
    }
    backend.set_rope(*rope, 0, cos, sin);
  }
  Tensor slopes(DType::kF32, {c.heads});
  for (int h = 0; h < c.heads; ++h)
    slopes.as<float>()[static_cast<std::size_t>(h)] = std::exp2(-1.0f - static_cast<float>(h)) * 0.703125f;
  const auto table = backend.make_table(copy_of(slopes));
  Backend::AttentionOptions options;
  options.scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  options.softcap = c.softcap;
  options.window = c.window;
  options.slopes = c.slopes ? table.get() : nullptr;
  options.slopes_bfloat16 = c.slopes == 2;
  std::vector<float> result;
  unsigned seed = 20;
  for (const auto* step : {&c.before, &c.segments}) {
    std::int64_t rows = 0;
    for (const Segment& segment : *step) rows += segment.tokens;
    if (rows == 0) continue;
    Tensor queries(DType::kF32, {rows, c.heads * c.head_dim});
    if (step == &c.segments)
      queries = random_tensor(DType::kF32, queries.shape(), ++seed, 2.0f);
    else
      std::ranges::fill(queries.as<float>(), 0.0f);
    const auto q = side.typed(queries, type);
    const auto k = side.typed(random_tensor(DType::kF32, {rows, c.kv_heads * c.head_dim}, ++seed), type);
    const auto v = side.typed(random_tensor(DType::kF32, {rows, c.kv_heads * c.head_dim}, ++seed), type);
    const auto out = backend.make_array(rows, c.heads * c.head_dim);
    if (fused && step == &c.segments) {
      backend.rope_attention(*q, *k, *v, rope.get(), c.heads, options, *step, 1, *cache, *out);
    } else {
      backend.rope_append(*q, *k, *v, rope.get(), c.heads, *step, 1, *cache);
      if (step == &c.before) continue;
      backend.attention(*q, *cache, 1, c.heads, options, *step, *out);
    }
    result = side.read(*out, rows, c.heads * c.head_dim);
    const auto again = side.typed(random_tensor(DType::kF32, queries.shape(), ++seed, 2.0f), type);
    backend.attention(*again, *cache, 1, c.heads, options, *step, *out);
    std::ranges::copy(side.read(*out, rows, c.heads * c.head_dim), std::back_inserter(result));
  }
  return result;
}

void compare(const Sides& sides, const AttentionCase& c, DType type, DType cached) {
  if (test::left_out()) return;
  INFO(info(type).name << " over " << info(cached).name << ", heads " << c.heads << "/" << c.kv_heads
                       << " of " << c.head_dim << ", tokens " << c.segments[0].tokens << " at "
                       << c.segments[0].position << ", window " << c.window << ", cap " << c.softcap
                       << ", slopes " << c.slopes);
  const auto wanted = attend(sides.cpu, c, type, cached, false);
  const auto found = attend(sides.gpu, c, type, cached, false);
  CHECK(distance(found, wanted) < tolerance(cached));
  CHECK(found == attend(sides.gpu, c, type, cached, false));  // the same bits every time
  const auto fused = attend(sides.gpu, c, type, cached, true);
  CHECK(distance(fused, wanted) < tolerance(cached));
  // What is filed is the same to the last bit.
  CHECK(std::equal(fused.begin() + static_cast<std::ptrdiff_t>(fused.size() / 2), fused.end(),
                   found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2)));
}

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

TEST_CASE("attention is the CPU's: shapes and types") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  const std::vector<AttentionCase> cases{
      {2, 2, 64, 64, {}, {{0, 0, 1}}},
      {4, 2, 128, 128, {{1, 0, 300}}, {{1, 300, 1}}},
      {4, 4, 128, 64, {{0, 0, 100}, {1, 0, 37}, {4, 0, 513}}, {{0, 100, 1}, {1, 37, 1}, {4, 513, 1}}},
      {2, 1, 64, 32, {{2, 0, 77}}, {{2, 77, 200}}},
      {2, 2, 128, 128, {}, {{0, 0, 500}, {3, 0, 129}}},
      {2, 2, 64, 32, {{0, 0, 20}}, {{0, 20, 70}}, 0, 0.0f, 0, RopePairs::kNeighbours},
      {2, 2, 64, 32, {{0, 0, 20}}, {{0, 20, 1}}, 0, 0.0f, 0, RopePairs::kNeighbours},
      {2, 1, 128, 40, {{0, 0, 20}}, {{0, 20, 1}}},  // turns in no multiple of 8 columns
      {8, 2, 128, 128, {{3, 0, 900}, {1, 0, 3}}, {{3, 900, 1}, {1, 3, 1}, {0, 0, 1}}},
      {2, 2, 32, 0, {}, {{0, 0, 70}}},
      {3, 1, 12, 8, {{0, 0, 20}}, {{0, 20, 9}}},  // no multiple of 8: the plain kernel
      {2, 1, 20, 20, {}, {{0, 0, 70}}},
  };
  for (const DType type : kTypes)
    for (const AttentionCase& c : cases) compare(sides, c, type, type);
}

TEST_CASE("attention is the CPU's: every head size, few and many tokens") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const int dim : {8, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256}) {
    compare(sides, {4, 2, dim, 0, {{0, 0, 150}}, {{0, 150, 1}}}, DType::kBF16, DType::kBF16);
    compare(sides, {2, 1, dim, 0, {{0, 0, 30}}, {{0, 30, 100}}}, DType::kBF16, DType::kBF16);
    compare(sides, {2, 1, dim, 0, {{0, 0, 30}}, {{0, 30, 12}}}, DType::kF32, DType::kF16);
  }
}

TEST_CASE("attention is the CPU's: windows, caps and slopes, alone and together") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const int dim : {64, 128, 256})
    for (const std::int64_t window : {0, 1, 16, 100, 5000})
      for (const float softcap : {0.0f, 3.0f})
        for (const int slopes : {0, 1, 2})
          for (const DType type : {DType::kF32, DType::kBF16}) {
            compare(
                sides,
                {2, 1, dim, 0, {{0, 0, 400}, {1, 0, 7}}, {{0, 400, 1}, {1, 7, 1}}, window, softcap, slopes},
                type, type);
            compare(sides, {2, 1, dim, 0, {{0, 0, 130}}, {{0, 130, 150}}, window, softcap, slopes}, type,
                    type);
          }
}

TEST_CASE("attention is the CPU's: long caches, in splits, groups of heads together") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const int dim : {64, 128, 256})
    for (const int group : {1, 2, 4})
      for (const std::int64_t window : {0, 1400}) {
        if (dim == 256 && group != 2) continue;
        std::vector<Segment> before, step;
        for (int s = 0; s < 3; ++s) {
          before.push_back({s, 0, 1500 - 7 * s});
          step.push_back({s, 1500 - 7 * s, 1});
        }
        constexpr int kKvHeads = 4;
        compare(sides, {kKvHeads * group, kKvHeads, dim, 0, before, step, window}, DType::kBF16,
                DType::kBF16);
      }
}

}  // namespace
}  // namespace qtool
