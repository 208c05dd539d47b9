// Steps that compute logits and tokens along with their layers, recorded and replayed, against steps that are
// asked for them afterwards.
#include <algorithm>
#include <numeric>

#include "core/model/transformer.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"
#include "formats/weights_io.h"
#include "test/cuda/gpu.h"
#include "test/support/paths.h"

namespace qtool {
namespace {

using UpTo = Transformer::UpTo;

constexpr std::int64_t kSteps = 12;
constexpr std::int64_t kPrompt = 40;
constexpr float kSameLogit = 1e-3f;  // float32 sums in another order

struct Made {
  std::unique_ptr<Backend> backend = make_cuda_backend(0);
  std::unique_ptr<Transformer> model;

  Made(const std::string& folder, DType type, std::int64_t batch, bool isolated) {
    if (isolated) REQUIRE(backend->isolate_rows());
    const Checkpoint checkpoint = Checkpoint::open(test::data(folder));
    const auto source = make_weight_source(checkpoint, nullptr, nullptr);
    model = std::make_unique<Transformer>(
        model_spec_of(checkpoint), *backend, *source,
        Transformer::Options{
            type, type, type, {static_cast<int>(batch) + 1, kPrompt, std::max(batch, kPrompt), batch}},
        std::function<void(std::int64_t)>());
  }

  std::vector<std::int32_t> greedy(std::span<const std::int64_t> rows) const {
    std::vector<std::int32_t> tokens(rows.size());
    model->greedy(rows, tokens);
    return tokens;
  }
  std::vector<float> logits(std::span<const std::int64_t> rows) const {
    const auto found = model->logits(rows);
    return {found.begin(), found.end()};
  }
  // Another sequence's prompt between the steps: workspaces grow and move, what was recorded is void.
  std::vector<float> read_prompt(std::int64_t batch) const {
    const std::vector<std::int32_t> ids(kPrompt, 3);
    const Segment segment{static_cast<int>(batch), 0, kPrompt};
    model->forward({&segment, 1}, ids, 0,
                   UpTo::kTokens);  // more than a token each: nothing is computed along
    const std::int64_t last = kPrompt - 1;
    return logits({&last, 1});
  }
};

void compare(const std::string& folder, DType type, std::int64_t batch, bool isolated) {
  if (test::left_out()) return;
  INFO(folder << " " << info(type).name << " batch " << batch << (isolated ? " isolated" : ""));
  const Made along(folder, type, batch, isolated), after(folder, type, batch, isolated);
  const auto size = static_cast<std::size_t>(batch);
  std::vector<std::int64_t> rows(size), some;
  std::iota(rows.begin(), rows.end(), 0);
  for (std::int64_t row = batch - 1; row >= 0; row -= 2) some.push_back(row);
  std::vector<std::int32_t> ids(size);
  for (std::size_t i = 0; i < size; ++i) ids[i] = 1 + static_cast<std::int32_t>(i) * 2;
  std::vector<Segment> segments(size);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    INFO("step " << step);
    for (std::size_t i = 0; i < size; ++i) segments[i] = {static_cast<int>(i), step, 1};
    along.model->forward(segments, ids, 0, step % 5 == 4 ? UpTo::kLogits : UpTo::kTokens);
    after.model->forward(segments, ids);
    const auto tokens = after.greedy(rows);
    const auto logits = after.logits(rows);
    CHECK(std::ranges::count(tokens, -1) == 0);
    CHECK(along.greedy(rows) == tokens);
    if (step % 3 == 1) CHECK(along.logits(rows) == logits);
    if (step % 3 == 2) {  // some of the rows, in another order, which leaves the others' tokens
      std::vector<std::int32_t> picked;
      for (const std::int64_t row : some) picked.push_back(tokens[static_cast<std::size_t>(row)]);
      CHECK(along.greedy(some) == picked);
      CHECK(along.logits(some) == after.logits(some));
      CHECK(along.greedy(rows) == tokens);
      CHECK(along.logits(rows) == logits);
    }
    if (step == 6) CHECK(along.read_prompt(batch) == after.read_prompt(batch));
    ids = tokens;
  }
}

TEST_CASE("tokens and logits computed along with a step are those asked for after it") {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t batch : {1, 8, 33})
    for (const DType type : {DType::kF32, DType::kBF16}) {
      for (const char* folder : {"demo", "families/gemma2", "families/opt", "families/mixtral",
                                 "families/phi3_longrope", "families/granite"})
        compare(folder, type, batch, false);
      if (make_cuda_backend(0)->isolate_rows()) compare("demo", type, batch, true);
    }
}

// A step of a form that has not run yet is not recorded: what a model that begins anew says to each token,
// having read what comes before as a prompt.
TEST_CASE("replayed steps choose the likeliest tokens of steps that were never recorded") {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t batch : {1, 8, 33}) {
    if (test::left_out()) continue;
    INFO("batch " << batch);
    const Made replayed("demo", DType::kF32, batch, false);
    const auto size = static_cast<std::size_t>(batch);
    std::vector<std::int64_t> rows(size);
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<std::vector<std::int32_t>> sequences(size);
    for (std::size_t i = 0; i < size; ++i) sequences[i] = {1 + static_cast<std::int32_t>(i) * 2};
    std::vector<Segment> segments(size);
    std::vector<std::int32_t> ids(size);
    for (std::int64_t step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < size; ++i) {
        segments[i] = {static_cast<int>(i), step, 1};
        ids[i] = sequences[i].back();
      }
      replayed.model->forward(segments, ids, 0, UpTo::kTokens);
      const auto tokens = replayed.greedy(rows);
      if (step > 0 && step % 3 == 0) {
        INFO("step " << step);
        const Made fresh("demo", DType::kF32, batch, false);
        for (std::size_t i = 0; i < size; ++i) {
          const Segment prompt{static_cast<int>(i), 0, step};
          fresh.model->forward({&prompt, 1}, std::span(sequences[i]).first(static_cast<std::size_t>(step)));
        }
        fresh.model->forward(segments, ids, 0, UpTo::kTokens);
        const auto logits = fresh.logits(rows);
        const std::size_t vocab = logits.size() / size;
        for (std::size_t i = 0; i < size; ++i) {
          const auto row = std::span(logits).subspan(i * vocab, vocab);
          CHECK(row[static_cast<std::size_t>(tokens[i])] >= std::ranges::max(row) - kSameLogit);
        }
      }
      for (std::size_t i = 0; i < size; ++i) sequences[i].push_back(tokens[i]);
    }
  }
}

}  // namespace
}  // namespace qtool
