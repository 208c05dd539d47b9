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

// One sequence in the transformer's cache.
class Sequence {
 public:
  // Logits of one token, by its index in the sequence.
  using LogitSink = std::function<void(std::int64_t index, std::span<const float> logits)>;

  explicit Sequence(Transformer& transformer, int slot = 0) : transformer_(transformer), slot_(slot) {}

  const std::vector<std::int32_t>& tokens() const { return tokens_; }

  // Appends tokens in steps of the transformer's chunk size and returns the logits [vocab] after the last of
  // them; valid until the next call. `each`, if given, sees the logits after every one of them, in order.
  //
  // Where longrope changes its frequencies (see rope_invalidates_cache) the whole sequence is computed anew.
  std::span<const float> append(std::span<const std::int32_t> ids, const LogitSink& each = {});

 private:
  Transformer& transformer_;
  int slot_ = 0;
  std::vector<std::int32_t> tokens_;
};

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
  std::int64_t decode_bytes_per_token = 0;  // weights and cache that a step read, on average
};

// Errors: kUsage for an empty prompt, ids outside the vocabulary, or a prompt that exceeds the context;
// kInterrupted.
Generation generate(Transformer& transformer, std::span<const std::int32_t> prompt,
                    const GenerateParams& params, const TextOutput& output);

}  // namespace qtool
