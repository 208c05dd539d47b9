// Logits -> the next token: a pure function of logits, history, parameters and one random number.
//
// The processors run in transformers' order and mean what they mean there:
//   logit bias, repetition penalty, no-repeat n-grams, then, when sampling, temperature, top-k, top-p, min-p,
//   typical-p.
// Source: transformers generation/logits_process.py and GenerationMixin._get_logits_processor.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace qtool {

struct SamplingParams {
  bool sample = false;                                     // false: the likeliest token
  std::vector<std::pair<std::int32_t, float>> logit_bias;  // added to a token's logit
  double repetition_penalty =
      1.0;                   // of every token in prompt and output, once: > 1 makes it less likely; > 0
  int no_repeat_ngram = 0;   // n: no n tokens in a row appear twice; 0 is off
  double temperature = 1.0;  // > 0
  std::int64_t top_k = 0;    // keep the k likeliest (and what equals the k-th); 0 is off
  double top_p = 1.0;        // keep the likeliest that reach this probability, the one that crosses it
                             // included; 1 is off
  double min_p = 0.0;        // keep what is at least min_p times as likely as the likeliest; 0 is off
  double typical_p = 1.0;    // keep the tokens nearest to the expected surprise that reach this
                             // probability; 1 is off
  std::uint64_t seed = 0;
};

// Chooses. `scores` [vocab] are the logits and are overwritten by the processors; `history` is prompt and
// output so far; `uniform` in [0, 1) decides when sampling: tokens are laid out by id, each as wide as it is
// probable. Errors: kMalformed when the logits are not finite.
std::int32_t choose_token(std::span<float> scores, std::span<const std::int32_t> history,
                          const SamplingParams& params, double uniform);

// The random number of step `step` of sequence `sequence`: 53 bits of Philox4x32-10 with the seed as key and
// (step, sequence) as counter. It depends on nothing else: not on the platform, the number of threads, or on
// how many numbers were drawn before. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
// (2011).
double uniform_of(std::uint64_t seed, std::uint64_t sequence, std::uint64_t step);

}  // namespace qtool
