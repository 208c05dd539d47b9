#include "core/model/continuation.h"

#include <algorithm>
#include <utility>

namespace qtool {

Continuation::Continuation(GenerateParams params, TextOutput output, std::int64_t prompt_tokens,
                           std::int64_t context_tokens)
    : params_(std::move(params)),
      output_(std::move(output)),
      stops_(params_.stop_strings),
      room_(context_tokens - prompt_tokens) {
  if (params_.prompt_logprobs) out_.prompt_logprobs.emplace_back();  // nothing precedes the first token
  end_if_full();
}

bool Continuation::wants_logits() const {
  const SamplingParams& sampling = params_.sampling;
  return params_.logprobs || sampling.sample || !sampling.logit_bias.empty() ||
         sampling.repetition_penalty != 1.0 || sampling.no_repeat_ngram > 0;
}

void Continuation::take_prompt(std::span<const float> logits, std::int32_t next) {
  out_.prompt_logprobs.emplace_back(logprobs_of(logits, next, *params_.prompt_logprobs));
}

std::int32_t Continuation::choose(std::span<const float> logits, std::span<const std::int32_t> history) {
  scores_.assign(logits.begin(), logits.end());
  const std::int32_t token = choose_token(scores_, history, params_.sampling,
                                          uniform_of(params_.sampling.seed, 0, out_.tokens.size()));
  if (params_.logprobs) out_.logprobs.push_back(logprobs_of(logits, token, *params_.logprobs));
  adopt(token);
  return token;
}

void Continuation::adopt(std::int32_t token) {
  out_.tokens.push_back(token);
  if (std::find(params_.stop_tokens.begin(), params_.stop_tokens.end(), token) != params_.stop_tokens.end())
    return end(FinishReason::kStop);
  if (output_.decode) show(stops_.push(output_.decode(token)));
  if (stops_.found()) return end(FinishReason::kStopString);
  end_if_full();
}

void Continuation::end(FinishReason reason) {
  out_.finish_reason = reason;
  ended_ = true;
}

void Continuation::end_if_full() {
  const auto count = static_cast<std::int64_t>(out_.tokens.size());
  if (count >= params_.max_new_tokens)
    end(FinishReason::kLength);
  else if (count >= room_)
    end(FinishReason::kContext);
}

void Continuation::show(const std::string& text) {
  out_.text += text;
  if (output_.show && !text.empty()) output_.show(text);
}

Generation Continuation::finish() {
  if (output_.finish && !stops_.found()) {
    show(stops_.push(output_.finish()));
    if (!stops_.found()) show(stops_.finish());
  }
  return std::move(out_);
}

}  // namespace qtool
