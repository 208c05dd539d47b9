// A run: a prompt goes in, tokens come out one by one until something says stop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/logprobs.h"
#include "core/model/sampler.h"
#include "core/model/transformer.h"

namespace qtool {

enum class FinishReason : std::uint8_t {
  kStop,        // an end-of-sequence or stop token; it is the last of the tokens, without text
  kStopString,  // a stop string; the text ends before it
  kLength,      // as many tokens as were asked for
  kContext,     // prompt and output fill the context
};
std::string_view name_of(FinishReason reason);  // "stop", "stop_string", "length", "context"

struct GenerateParams {
  std::int64_t max_new_tokens = 128;
  SamplingParams sampling;
  std::vector<std::int64_t> stop_tokens;  // end of sequence included, unless it is to be ignored
  std::vector<std::string> stop_strings;  // none empty
  std::optional<std::int64_t> logprobs;   // of chosen tokens, with this many best
  std::optional<std::int64_t> prompt_logprobs;
};

// Ids -> text, for those who have a tokenizer; without one all members stay empty.
struct TextOutput {
  std::function<std::string(std::int32_t)> decode;  // text that became certain with this token
  std::function<std::string()> finish;              // what is left
  std::function<void(std::string_view)> show;       // gets the text as it becomes certain
};

struct Generation {
  std::vector<std::int32_t> tokens;  // new ones
  std::string text;                  // of the new tokens
  FinishReason finish_reason = FinishReason::kLength;
  std::vector<Logprobs> logprobs;  // of `tokens`, if asked for
  std::vector<std::optional<Logprobs>>
      prompt_logprobs;  // of the prompt given what precedes; nothing for the first
  double prefill_s = 0.0;
  std::int64_t decode_tokens = 0;  // steps of one token; the first new token comes out of the prefill
  double decode_s = 0.0;
  std::int64_t decode_bytes_per_token = 0;  // weights and cache that a step of this sequence alone reads, on
                                            // average
};

// Errors: kUsage for a prompt without tokens, one longer than the context, and ids outside the vocabulary.
void check_prompt(std::span<const std::int32_t> prompt, std::int64_t vocab_size, std::int64_t context_tokens);

// A batch of one (see batch.h). Errors: those of check_prompt; kMalformed when the logits are not finite;
// kInterrupted.
Generation generate(Transformer& transformer, std::span<const std::int32_t> prompt,
                    const GenerateParams& params, const TextOutput& output);

}  // namespace qtool
