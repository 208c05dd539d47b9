// The forward pass' own promises: what it allocates, and that chunks and batches change nothing. Whether the
// numbers are right is logits_test's question.
#include "core/model/transformer.h"

#include <numeric>

#include "core/error.h"
#include "core/model/sequence.h"
#include "core/model/session.h"
#include "test/core/model/random_model.h"
#include "test/support/paths.h"

using namespace qtool;
using namespace qtool::test;

namespace {

std::vector<std::int32_t> some_ids(std::int64_t count) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>((i * 7 + 3) % 40));
  return ids;
}

std::vector<float> logits_after(Transformer& model, std::span<const std::int32_t> ids) {
  Sequence sequence(model);
  const auto logits = sequence.append(ids);
  return {logits.begin(), logits.end()};
}

void check_close(std::span<const float> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == Approx(expected[i]).margin(2e-5));
}

}  // namespace

TEST_CASE("what is allocated is what the formulas say") {
  const auto backend = make_cpu_backend(1);
  for (const bool tied : {false, true}) {
    ModelSpec spec = small_spec();
    spec.tied_head = tied;
    const Capacity capacity = capacity_of(3, 50);
    const auto model = random_model(*backend, spec, capacity);
    CHECK(model->kv_cache_bytes() == kv_cache_bytes(spec, 3, 50, DType::kF32));
    CHECK(model->workspace_bytes() == workspace_bytes(spec, capacity));
    const std::int64_t attention = 24 * 32 * 2 + 24 * 16 * 2;
    const std::int64_t elements = 2 * (attention + 3 * 24 * 36 + 2 * 24) + 24 + 40 * 24 * (tied ? 1 : 2);
    CHECK(model->weights_bytes() == 4 * elements);
    // A decode step reads all of it but, where the head is its own matrix, only one row of the embedding.
    CHECK(model->bytes_per_decode_step(10) ==
          4 * (elements - (tied ? 0 : 40 * 24) + 24) + kv_cache_bytes(spec, 1, 10, DType::kF32));
  }
}

TEST_CASE("of a mixture of experts a token reads those that it chooses") {
  const auto backend = make_cpu_backend(1);
  ModelSpec spec = small_spec();
  spec.experts = {5, 2, 12, true, 20};
  spec.by_layer.resize(2);
  spec.by_layer[1].experts = true;
  const Capacity capacity = capacity_of(3, 50);
  const auto model = random_model(*backend, spec, capacity);
  CHECK(model->workspace_bytes() == workspace_bytes(spec, capacity));
  const std::int64_t attention = 24 * 32 * 2 + 24 * 16 * 2;
  const std::int64_t dense = 3 * 24 * 36, expert = 3 * 24 * 12, others = 5 * 24 + 3 * 24 * 20 + 24;
  const std::int64_t elements = 2 * (attention + 2 * 24) + 24 + 2 * 40 * 24 + dense + others + 5 * expert;
  CHECK(model->weights_bytes() == 4 * elements);
  CHECK(model->bytes_per_decode_step(10) ==
        4 * (elements - 3 * expert - 40 * 24 + 24) + kv_cache_bytes(spec, 1, 10, DType::kF32));
}

TEST_CASE("of learned positions a token reads one, and there are none beyond the table") {
  const auto backend = make_cpu_backend(1);
  ModelSpec spec = small_spec();
  spec.by_layer.assign(2, {});
  for (LayerSpec& layer : spec.by_layer) layer.rope = LayerRope::kNone;
  const auto without = random_model(*backend, spec, capacity_of(1, 64));
  spec.learned_positions = 2;
  const auto model = random_model(*backend, spec, capacity_of(1, 66));
  CHECK(model->workspace_bytes() == workspace_bytes(spec, capacity_of(1, 66)));
  CHECK(model->weights_bytes() == without->weights_bytes() + 4 * 66 * 24);
  CHECK(model->bytes_per_decode_step(10) == without->bytes_per_decode_step(10) + 4 * 24);

  const auto ids = some_ids(65);
  CHECK_NOTHROW(logits_after(*model, std::span(ids).first(64)));
  CHECK_THROWS_WITH(logits_after(*model, ids), Catch::Contains("64 positions"));
}

TEST_CASE("the default context is what a run needs, within what the model was made for") {
  ModelSpec spec = small_spec();
  CHECK(default_context_tokens(spec, 10) == 64);
  spec.max_positions = 100000;
  CHECK(default_context_tokens(spec, 10) == kDefaultContextTokens);
  CHECK(default_context_tokens(spec, 5000) == 5000);
  CHECK(default_context_tokens(spec, 200000) == 100000);
}

TEST_CASE("a prompt may come in chunks, or token by token") {
  const auto backend = make_cpu_backend(1);
  Capacity capacity = capacity_of(1, 40);
  const auto whole = random_model(*backend, small_spec(), capacity);
  capacity.chunk_tokens = 7;
  capacity.logit_rows = 2;
  const auto chunked = random_model(*backend, small_spec(), capacity);
  const auto ids = some_ids(31);
  const auto expected = logits_after(*whole, ids);
  check_close(logits_after(*chunked, ids), expected);

  Sequence slowly(*whole);
  std::span<const float> last;
  for (const std::int32_t id : ids) last = slowly.append({&id, 1});
  check_close(last, expected);
}

TEST_CASE("every token's logits come in order, whatever the chunks") {
  const auto backend = make_cpu_backend(1);
  Capacity capacity = capacity_of(1, 40);
  capacity.chunk_tokens = 6;
  capacity.logit_rows = 4;
  const auto model = random_model(*backend, small_spec(), capacity);
  const auto ids = some_ids(15);
  std::vector<std::vector<float>> seen;
  Sequence sequence(*model);
  sequence.append(ids, [&](std::int64_t index, std::span<const float> logits) {
    CHECK(index == static_cast<std::int64_t>(seen.size()));
    seen.emplace_back(logits.begin(), logits.end());
  });
  REQUIRE(seen.size() == ids.size());
  for (const std::size_t length : {1u, 6u, 7u, 15u})
    check_close(seen[length - 1], logits_after(*model, std::span(ids).first(length)));
}

TEST_CASE("sequences of one step do not see each other") {
  const auto backend = make_cpu_backend(2);
  const auto model = random_model(*backend, small_spec(), capacity_of(3, 40));
  const auto ids = some_ids(20);
  const std::vector<std::int32_t> first(ids.begin(), ids.begin() + 12), second(ids.begin() + 12, ids.end());
  const auto expected_first = logits_after(*model, first), expected_second = logits_after(*model, second);

  const Segment segments[] = {{2, 0, 12}, {1, 0, 8}};
  model->forward(segments, ids);
  const std::int64_t rows[] = {11, 19};
  const auto found = model->logits(rows);
  check_close(found.first(40), expected_first);
  check_close(found.last(40), expected_second);
}

TEST_CASE("what a step is told to compute along is what it is asked for later") {
  const auto backend = make_cpu_backend(1);
  ModelSpec spec = small_spec();
  spec.logit_scale = 0.5;  // in place: twice would show
  spec.logit_softcap = 3.0;
  using UpTo = Transformer::UpTo;
  for (const std::int64_t rows_held : {3, 2}) {  // with 2, a step of three is asked in pieces
    const Capacity capacity{3, 16, 16, rows_held};
    const auto along = random_model(*backend, spec, capacity), after = random_model(*backend, spec, capacity);
    for (std::int64_t step = 0; step < 4; ++step) {
      const std::vector<Segment> segments{{0, step, 1}, {1, step, 1}, {2, step, 1}};
      const std::vector<std::int32_t> ids = some_ids(step * 3 + 3);
      const std::span<const std::int32_t> last = std::span(ids).last(3);
      along->forward(segments, last, 0, step == 2 ? UpTo::kLogits : UpTo::kTokens);
      after->forward(segments, last);
      for (const std::vector<std::int64_t>& rows :
           {std::vector<std::int64_t>{0, 1, 2}, {2, 0}, {1}, {0, 1, 2}}) {
        if (static_cast<std::int64_t>(rows.size()) > rows_held) continue;
        std::vector<std::int32_t> found(rows.size()), expected(rows.size());
        along->greedy(rows, found);
        after->greedy(rows, expected);
        CHECK(found == expected);
        const auto logits = along->logits(rows);
        const std::vector<float> kept(logits.begin(), logits.end());
        check_close(kept, after->logits(rows));
        along->greedy(rows, found);
        CHECK(found == expected);
      }
    }
  }
  const auto model = random_model(*backend, spec, {1, 16, 16, 16});
  const Segment one{0, 0, 1};
  const std::int32_t id = 5;
  model->forward({&one, 1}, {&id, 1}, 0, UpTo::kTokens);
  const std::vector<std::int64_t> beyond{1};
  std::int32_t token = 0;
  CHECK_THROWS_AS(model->greedy(beyond, {&token, 1}), Error);
}

TEST_CASE("weights of another shape than the configuration's are refused") {
  const auto backend = make_cpu_backend(1);
  ModelSpec stored = small_spec(), described = small_spec();
  described.intermediate_size = 40;
  RandomWeights weights(stored);
  Transformer::Options options;
  options.capacity = capacity_of(1, 16);
  try {
    const Transformer model(described, *backend, weights, options, nullptr);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kMalformed);
    CHECK(std::string(error.what()).find("layer 0's gate projection has shape [36, 24]") !=
          std::string::npos);
  }
}

TEST_CASE("a bias that the configuration promises must be there") {
  struct Unbiased : RandomWeights {
    using RandomWeights::RandomWeights;
    std::optional<Tensor> bias(Role, int, int) override { return std::nullopt; }
  };
  const auto backend = make_cpu_backend(1);
  ModelSpec spec = small_spec();
  spec.mlp_bias = true;
  Unbiased weights(spec);
  Transformer::Options options;
  options.capacity = capacity_of(1, 16);
  CHECK_THROWS_WITH(Transformer(spec, *backend, weights, options, nullptr),
                    Catch::Contains("layer 0's gate projection's bias is missing"));
}

TEST_CASE("ids outside the vocabulary are refused") {
  const auto backend = make_cpu_backend(1);
  const auto model = random_model(*backend, small_spec(), capacity_of(1, 16));
  for (const std::int32_t id : {-1, 40}) {
    Sequence sequence(*model);
    CHECK_THROWS_AS(sequence.append({&id, 1}), Error);
  }
}
