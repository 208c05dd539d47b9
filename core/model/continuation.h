// One prompt being continued: which token comes next, what text it makes, and when it is over. No device:
// logits come in, a Generation goes out.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/session.h"
#include "core/model/stop_strings.h"

namespace qtool {

class Continuation {
 public:
  // `context_tokens`: how many tokens prompt and output may have together.
  Continuation(GenerateParams params, TextOutput output, std::int64_t prompt_tokens,
               std::int64_t context_tokens);

  // Whether nothing more is to be chosen.
  bool ended() const { return ended_; }

  // Whether the next token is the likeliest whatever the logits are, and they are not asked for: it may then
  // be chosen on the device.
  bool wants_logits() const;
  // Whether the logits after every token of the prompt are wanted, by take_prompt().
  bool wants_prompt_logits() const { return params_.prompt_logprobs.has_value(); }

  // The logits [vocab] after a token of the prompt, which `next` follows; in order.
  void take_prompt(std::span<const float> logits, std::int32_t next);

  // Chooses the next token by its logits [vocab]; `history` is prompt and output so far. Errors: kMalformed
  // when they are not finite.
  std::int32_t choose(std::span<const float> logits, std::span<const std::int32_t> history);
  // Adopts a token that was chosen on the device.
  void adopt(std::int32_t token);

  // The result; its times are the caller's to fill in.
  Generation finish();

 private:
  void end(FinishReason reason);
  void end_if_full();
  void show(const std::string& text);

  GenerateParams params_;
  TextOutput output_;
  StopStrings stops_;
  std::int64_t room_ = 0;  // new tokens that the context holds
  Generation out_;
  bool ended_ = false;
  std::vector<float> scores_;
};

}  // namespace qtool
