// Continuous batching: whatever else is in the batch, every request gets what it would get alone.
#include "core/model/batch.h"

#include <algorithm>
#include <limits>
#include <map>
#include <span>

#include "core/error.h"
#include "test/core/model/random_model.h"
#include "test/support/paths.h"

using namespace qtool;
using namespace qtool::test;

namespace {

// A model of the given capacity on a backend whose rows are isolated.
struct Machine {
  std::unique_ptr<Backend> backend = make_cpu_backend(1);
  std::unique_ptr<Transformer> model;

  explicit Machine(const Capacity& capacity, const ModelSpec& spec = small_spec()) {
    REQUIRE(backend->isolate_rows());
    model = random_model(*backend, spec, capacity);
  }
};

// Requests of all kinds: lengths from 1 to 30, greedy and sampled, with stops, biases and log-probabilities.
std::vector<BatchRequest> mixed_requests(std::size_t count) {
  std::vector<BatchRequest> requests(count);
  for (std::size_t i = 0; i < count; ++i) {
    BatchRequest& request = requests[i];
    for (std::size_t k = 0; k < 1 + (i * 7) % 30; ++k)
      request.prompt.push_back(static_cast<std::int32_t>((i * 11 + k * k * 3 + k) % 40));
    GenerateParams& params = request.params;
    params.max_new_tokens = static_cast<std::int64_t>((i * 5) % 20);
    params.sampling.sample = i % 2 == 1;
    params.sampling.temperature = 0.8;
    params.sampling.top_k = i % 4 == 1 ? 5 : 0;
    params.sampling.seed = i;
    if (i % 5 == 2) params.sampling.repetition_penalty = 1.3;
    if (i % 7 == 3) params.sampling.logit_bias = {{3, 2.0f}};
    if (i % 3 == 0) params.stop_tokens = {static_cast<std::int64_t>(i % 40)};
    if (i % 6 == 1) params.stop_strings = {"1>"};
    if (i % 8 == 4) params.logprobs = 2;
    if (i % 9 == 5) params.prompt_logprobs = 3;
    request.output.decode = [](std::int32_t id) { return "<" + std::to_string(id) + ">"; };
    request.output.finish = [] { return std::string("."); };
  }
  return requests;
}

struct Answers {
  std::map<std::size_t, BatchResult> of;
  std::vector<std::size_t> order;  // in which they came
  BatchFigures figures;
};

Answers run_all(Transformer& model, std::vector<BatchRequest> requests) {
  Answers answers;
  std::size_t at = 0;
  answers.figures = run_batch(model, [&]() -> std::optional<BatchRequest> {
    if (at == requests.size()) return std::nullopt;
    BatchRequest request = std::move(requests[at]);
    request.done = [&answers, at](BatchResult result) {
      answers.order.push_back(at);
      CHECK(answers.of.emplace(at, std::move(result)).second);
    };
    ++at;
    return request;
  });
  CHECK(answers.of.size() == requests.size());
  return answers;
}

void check_same(const std::vector<Logprobs>& found, const std::vector<Logprobs>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].chosen.token == expected[i].chosen.token);
    CHECK(found[i].chosen.logprob == expected[i].chosen.logprob);
    REQUIRE(found[i].top.size() == expected[i].top.size());
    for (std::size_t k = 0; k < found[i].top.size(); ++k)
      CHECK(found[i].top[k].logprob == expected[i].top[k].logprob);
  }
}

void check_same(const Generation& found, const Generation& expected) {
  CHECK(found.tokens == expected.tokens);
  CHECK(found.text == expected.text);
  CHECK(found.finish_reason == expected.finish_reason);
  CHECK(found.decode_tokens == expected.decode_tokens);
  check_same(found.logprobs, expected.logprobs);
  REQUIRE(found.prompt_logprobs.size() == expected.prompt_logprobs.size());
  for (std::size_t i = 1; i < found.prompt_logprobs.size(); ++i)
    CHECK(found.prompt_logprobs[i]->chosen.logprob == expected.prompt_logprobs[i]->chosen.logprob);
}

}  // namespace

TEST_CASE("a batch answers every request as if it were alone, to the last bit") {
  const auto requests = mixed_requests(60);
  Machine alone(capacity_of(1, 45));
  Capacity tight = capacity_of(11, 45);
  tight.chunk_tokens = 16;  // prompts are read in pieces, among decode steps
  tight.logit_rows = 3;
  for (const Capacity& capacity : {capacity_of(2, 45), capacity_of(11, 45), capacity_of(60, 45), tight}) {
    CAPTURE(capacity.sequences, capacity.chunk_tokens);
    Machine many(capacity);
    const Answers answers = run_all(*many.model, requests);
    std::int64_t tokens = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      const Generation expected =
          generate(*alone.model, requests[i].prompt, requests[i].params, requests[i].output);
      REQUIRE_FALSE(answers.of.at(i).failure);
      check_same(answers.of.at(i).generation, expected);
      tokens += static_cast<std::int64_t>(expected.tokens.size());
    }
    CHECK(answers.figures.new_tokens == tokens);
  }
}

TEST_CASE("places are filled as they get free, so that a batch takes fewer steps than its parts") {
  Machine many(capacity_of(8, 45)), alone(capacity_of(1, 45));
  const Answers together = run_all(*many.model, mixed_requests(60));
  const Answers apart = run_all(*alone.model, mixed_requests(60));
  CHECK(apart.figures.mean_batch() == 1.0);
  CHECK(together.figures.mean_batch() > 5.0);
  CHECK(together.figures.steps * 4 < apart.figures.steps);
  CHECK(together.figures.new_tokens == apart.figures.new_tokens);
  CHECK(together.figures.prompt_tokens == apart.figures.prompt_tokens);
  // The short ones did not wait for the long ones.
  CHECK_FALSE(std::is_sorted(together.order.begin(), together.order.end()));
}

// Greedy, to the end of their lengths.
std::vector<BatchRequest> plain_requests(std::span<const std::int64_t> new_tokens) {
  std::vector<BatchRequest> requests(new_tokens.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::size_t k = 0; k < 16; ++k)
      requests[i].prompt.push_back(static_cast<std::int32_t>((i + k * k) % 40));
    requests[i].params.max_new_tokens = new_tokens[i];
  }
  return requests;
}

TEST_CASE("all prompts of a full batch are read in its first step") {
  Machine many(capacity_of(32, 40));
  const Answers answers = run_all(*many.model, plain_requests(std::vector<std::int64_t>(64, 24)));
  CHECK(answers.figures.steps == 2 * 24);
  CHECK(answers.figures.mean_batch() == 32.0);
}

TEST_CASE("one free place does not wait for others") {
  std::vector<std::int64_t> lengths(32, 24);
  lengths[7] = 1;
  lengths.push_back(12);  // takes the place of the eighth while the others go on
  Machine many(capacity_of(32, 40));
  CHECK(run_all(*many.model, plain_requests(lengths)).figures.steps == 24);
}

TEST_CASE("a request that cannot run fails alone") {
  Machine machine(capacity_of(4, 20));
  auto requests = mixed_requests(6);
  for (auto& request : requests) request.prompt.resize(4, 1);
  requests[1].prompt.clear();
  requests[2].prompt.assign(21, 1);
  requests[3].prompt[2] = 40;
  requests[4].prompt[0] = -1;
  const Answers answers = run_all(*machine.model, requests);
  CHECK_FALSE(answers.of.at(0).failure);
  CHECK_FALSE(answers.of.at(5).failure);
  const char* const said[] = {"no tokens", "the context holds 20", "token id 40 is outside",
                              "token id -1 is outside"};
  for (std::size_t i = 1; i <= 4; ++i) {
    REQUIRE(answers.of.at(i).failure);
    CHECK(answers.of.at(i).failure->code() == ExitCode::kUsage);
    CHECK(std::string(answers.of.at(i).failure->what()).find(said[i - 1]) != std::string::npos);
  }
}

TEST_CASE("what a device chooses is what the host would choose") {
  Machine machine(capacity_of(1, 45));
  GenerateParams on_device, on_host;
  on_device.max_new_tokens = on_host.max_new_tokens = 30;
  on_host.logprobs = 0;
  const std::vector<std::int32_t> prompt{5, 9, 2, 30};
  CHECK(generate(*machine.model, prompt, on_device, {}).tokens ==
        generate(*machine.model, prompt, on_host, {}).tokens);
}

TEST_CASE("outputs that are not finite are an error, wherever the token is chosen") {
  ModelSpec spec = small_spec();
  spec.norm_eps = std::numeric_limits<double>::quiet_NaN();
  Machine machine(capacity_of(1, 16), spec);
  for (const bool sample : {false, true}) {
    GenerateParams params;
    params.sampling.sample = sample;
    try {
      generate(*machine.model, std::vector<std::int32_t>{1, 2}, params, {});
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kMalformed);
    }
  }
}

TEST_CASE("frequencies that follow the length are those of the sequence itself") {
  ModelSpec spec = small_spec();
  spec.max_positions = 64;
  spec.rope.type = RopeType::kDynamic;
  spec.rope.factor = 2.0;
  spec.rope.original_max_positions = 16;
  Machine many(capacity_of(5, 60), spec), alone(capacity_of(1, 60), spec);
  const auto requests = mixed_requests(20);
  const Answers answers = run_all(*many.model, requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    check_same(answers.of.at(i).generation,
               generate(*alone.model, requests[i].prompt, requests[i].params, requests[i].output));
  }
}

TEST_CASE("as many sequences as memory holds") {
  const ModelSpec spec = small_spec();
  const auto bytes = [&](int sequences) {
    return kv_cache_bytes(spec, sequences, 50, DType::kF32) +
           workspace_bytes(spec, capacity_of(sequences, 50));
  };
  CHECK(sequences_that_fit(spec, 50, DType::kF32, bytes(7), 100) == 7);
  CHECK(sequences_that_fit(spec, 50, DType::kF32, bytes(7) - 1, 100) == 6);
  CHECK(sequences_that_fit(spec, 50, DType::kF32, bytes(7), 3) == 3);
  CHECK(sequences_that_fit(spec, 50, DType::kF32, bytes(1) - 1, 100) == 0);
}
