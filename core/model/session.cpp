#include "core/model/session.h"

#include <array>
#include <string>
#include <utility>

#include "core/model/batch.h"

namespace qtool {

std::string_view name_of(FinishReason reason) {
  static constexpr std::array<std::string_view, 4> kNames{"stop", "stop_string", "length", "context"};
  return kNames[static_cast<std::size_t>(reason)];
}

void check_prompt(std::span<const std::int32_t> prompt, std::int64_t vocab_size,
                  std::int64_t context_tokens) {
  if (prompt.empty())
    throw Error(ExitCode::kUsage,
                "the prompt has no tokens, and the tokenizer adds none; give it at least one");
  if (static_cast<std::int64_t>(prompt.size()) > context_tokens)
    throw Error(ExitCode::kUsage, "the prompt has " + std::to_string(prompt.size()) +
                                      " tokens but the context holds " + std::to_string(context_tokens) +
                                      "; shorten it or raise --context");
  for (const std::int32_t id : prompt)
    if (id < 0 || id >= vocab_size)
      throw Error(ExitCode::kUsage, "token id " + std::to_string(id) +
                                        " is outside the model's vocabulary of " +
                                        std::to_string(vocab_size));
}

Generation generate(Transformer& transformer, std::span<const std::int32_t> prompt,
                    const GenerateParams& params, const TextOutput& output) {
  BatchResult result;
  bool given = false;
  run_batch(transformer, [&]() -> std::optional<BatchRequest> {
    if (std::exchange(given, true)) return std::nullopt;
    return BatchRequest{{prompt.begin(), prompt.end()}, params, output, [&result](BatchResult ended) {
                          result = std::move(ended);
                        }};
  });
  if (result.failure) throw Error(*result.failure);
  return std::move(result.generation);
}

}  // namespace qtool
