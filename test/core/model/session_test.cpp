#include "core/model/session.h"

#include "core/error.h"
#include "core/model/sequence.h"
#include "test/core/model/random_model.h"
#include "test/support/paths.h"

using namespace qtool;
using namespace qtool::test;

namespace {

const std::vector<std::int32_t> kPrompt{5, 9, 2, 30};

// Runs the small model; token 7 reads "<7>".
struct Run {
  std::unique_ptr<Backend> backend = make_cpu_backend(1);
  std::unique_ptr<Transformer> model;
  std::string shown;

  explicit Run(std::int64_t context = 40)
      : model(random_model(*backend, small_spec(), capacity_of(1, context))) {}

  Generation operator()(const GenerateParams& params) {
    TextOutput output;
    output.decode = [](std::int32_t id) { return "<" + std::to_string(id) + ">"; };
    output.finish = [] { return std::string(); };
    output.show = [this](std::string_view text) { shown += text; };
    return generate(*model, kPrompt, params, output);
  }
};

GenerateParams up_to(std::int64_t tokens) {
  GenerateParams params;
  params.max_new_tokens = tokens;
  return params;
}

}  // namespace

TEST_CASE("generation ends at the length asked for, and streams what it returns") {
  Run run;
  const Generation out = run(up_to(6));
  CHECK(out.finish_reason == FinishReason::kLength);
  CHECK(out.tokens.size() == 6);
  CHECK(out.decode_tokens == 5);
  CHECK(run.shown == out.text);
  CHECK(out.text.starts_with("<" + std::to_string(out.tokens[0]) + ">"));
  CHECK(run(up_to(0)).tokens.empty());
}

TEST_CASE("greedy tokens are the likeliest, one by one") {
  Run run;
  const Generation out = run(up_to(5));
  std::vector<std::int32_t> ids = kPrompt;
  for (const std::int32_t token : out.tokens) {
    Sequence sequence(*run.model);
    CHECK(likeliest(sequence.append(ids)) == token);
    ids.push_back(token);
  }
}

TEST_CASE("a stop token ends the text before itself, and is the last token") {
  Run run;
  const Generation free = run(up_to(6));
  GenerateParams params = up_to(6);
  params.stop_tokens = {free.tokens[3]};
  const Generation out = run(params);
  CHECK(out.finish_reason == FinishReason::kStop);
  const auto first = std::find(free.tokens.begin(), free.tokens.end(), free.tokens[3]);
  CHECK(out.tokens == std::vector<std::int32_t>(free.tokens.begin(), first + 1));
  CHECK(free.text.starts_with(out.text));
  CHECK(out.text.find("<" + std::to_string(free.tokens[3]) + ">") == std::string::npos);
}

TEST_CASE("a stop string across tokens ends the text before it") {
  Run run;
  const Generation free = run(up_to(8));
  GenerateParams params = up_to(8);
  params.stop_strings = {std::to_string(free.tokens[2]) + "><" + std::to_string(free.tokens[3])};
  run.shown.clear();
  const Generation out = run(params);
  CHECK(out.finish_reason == FinishReason::kStopString);
  CHECK(out.text == free.text.substr(0, free.text.find(params.stop_strings[0])));
  CHECK(run.shown == out.text);
}

TEST_CASE("a full context ends generation") {
  Run run(10);
  const Generation out = run(up_to(100));
  CHECK(out.finish_reason == FinishReason::kContext);
  CHECK(out.tokens.size() == 6);
  Run narrow(3);
  CHECK_THROWS_AS(narrow(up_to(1)), Error);
}

TEST_CASE("sampling repeats with its seed and differs with another") {
  Run run;
  GenerateParams params = up_to(20);
  params.sampling.sample = true;
  params.sampling.temperature = 1.5;
  params.sampling.seed = 11;
  const auto first = run(params).tokens;
  CHECK(run(params).tokens == first);
  params.sampling.seed = 12;
  CHECK(run(params).tokens != first);
}

TEST_CASE("log-probabilities of new tokens and of the prompt") {
  Run run;
  GenerateParams params = up_to(3);
  params.logprobs = 2;
  params.prompt_logprobs = 40;
  const Generation out = run(params);
  REQUIRE(out.logprobs.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(out.logprobs[i].chosen.token == out.tokens[i]);
    REQUIRE(out.logprobs[i].top.size() == 2);
    CHECK(out.logprobs[i].top[0].logprob ==
          out.logprobs[i].chosen.logprob);  // greedy: the best is the chosen
  }
  REQUIRE(out.prompt_logprobs.size() == kPrompt.size());
  CHECK_FALSE(out.prompt_logprobs[0]);
  for (std::size_t i = 1; i < kPrompt.size(); ++i) {
    REQUIRE(out.prompt_logprobs[i]);
    Sequence sequence(*run.model);
    const auto logits = sequence.append(std::span(kPrompt).first(i));
    CHECK(out.prompt_logprobs[i]->chosen.token == kPrompt[i]);
    CHECK(out.prompt_logprobs[i]->chosen.logprob ==
          Approx(static_cast<double>(logits[static_cast<std::size_t>(kPrompt[i])]) - log_sum_exp(logits))
              .margin(1e-4));
    CHECK(out.prompt_logprobs[i]->top.size() == 40);
  }
}
