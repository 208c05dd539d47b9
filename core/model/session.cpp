#include "core/model/session.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "core/error.h"
#include "core/model/stop_strings.h"

namespace qtool {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_prompt(const Transformer& transformer, std::span<const std::int32_t> prompt) {
  if (prompt.empty())
    throw Error(ExitCode::kUsage,
                "the prompt has no tokens, and the tokenizer adds none; give it at least one");
  const std::int64_t context = transformer.capacity().context_tokens;
  if (static_cast<std::int64_t>(prompt.size()) > context)
    throw Error(ExitCode::kUsage, "the prompt has " + std::to_string(prompt.size()) +
                                      " tokens but the context holds " + std::to_string(context) +
                                      "; shorten it or raise --context");
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  static constexpr std::array<std::string_view, 4> kNames{"stop", "stop_string", "length", "context"};
  return kNames[static_cast<std::size_t>(reason)];
}

std::span<const float> Sequence::append(std::span<const std::int32_t> ids, const LogitSink& each) {
  auto done = static_cast<std::int64_t>(tokens_.size());  // positions the cache holds
  const std::int64_t first_new = done;
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  const auto length = static_cast<std::int64_t>(tokens_.size());
  if (rope_invalidates_cache(transformer_.spec().rope, done, length)) done = 0;

  const Capacity& capacity = transformer_.capacity();
  std::span<const float> last;
  std::vector<std::int64_t> rows;
  while (done < length) {
    const Segment segment{slot_, done, std::min(capacity.chunk_tokens, length - done)};
    transformer_.forward(
        {&segment, 1},
        std::span(tokens_).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(segment.tokens)),
        length);
    // Rows whose logits are wanted: all new ones for `each`, else only the very last.
    std::int64_t row = each ? std::max<std::int64_t>(0, first_new - done) : segment.tokens - 1;
    const bool ends = done + segment.tokens == length;
    while (row < segment.tokens && (each || ends)) {
      rows.clear();
      while (row < segment.tokens && static_cast<std::int64_t>(rows.size()) < capacity.logit_rows)
        rows.push_back(row++);
      const std::span<const float> logits = transformer_.logits(rows);
      const auto vocab = static_cast<std::size_t>(transformer_.spec().vocab_size);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        last = logits.subspan(i * vocab, vocab);
        if (each) each(done + rows[i], last);
      }
    }
    done += segment.tokens;
  }
  return last;
}

Generation generate(Transformer& transformer, std::span<const std::int32_t> prompt,
                    const GenerateParams& params, const TextOutput& output) {
  check_prompt(transformer, prompt);
  Generation out;
  Sequence sequence(transformer);
  StopStrings stops(params.stop_strings);
  const auto show = [&](const std::string& text) {
    out.text += text;
    if (output.show && !text.empty()) output.show(text);
  };

  const auto prefill_start = Clock::now();
  Sequence::LogitSink each;
  if (params.prompt_logprobs) {
    out.prompt_logprobs.emplace_back();
    each = [&](std::int64_t index, std::span<const float> logits) {
      const auto next = static_cast<std::size_t>(index) + 1;
      if (next < prompt.size())
        out.prompt_logprobs.push_back(logprobs_of(logits, prompt[next], *params.prompt_logprobs));
    };
  }
  std::span<const float> logits = sequence.append(prompt, each);
  out.prefill_s = seconds_since(prefill_start);

  const auto decode_start = Clock::now();
  std::vector<float> scores;
  std::int64_t bytes_read = 0;
  for (;;) {
    const auto generated = static_cast<std::int64_t>(out.tokens.size());
    if (generated >= params.max_new_tokens) {
      out.finish_reason = FinishReason::kLength;
      break;
    }
    const auto length = static_cast<std::int64_t>(prompt.size()) + generated;
    if (length >= transformer.capacity().context_tokens) {
      out.finish_reason = FinishReason::kContext;
      break;
    }
    if (generated > 0) {
      logits = sequence.append({&out.tokens.back(), 1});
      bytes_read += transformer.bytes_per_decode_step(length);
      ++out.decode_tokens;
    }
    scores.assign(logits.begin(), logits.end());
    const std::int32_t token =
        choose_token(scores, sequence.tokens(), params.sampling,
                     uniform_of(params.sampling.seed, 0, static_cast<std::uint64_t>(generated)));
    if (params.logprobs) out.logprobs.push_back(logprobs_of(logits, token, *params.logprobs));
    out.tokens.push_back(token);
    if (std::find(params.stop_tokens.begin(), params.stop_tokens.end(), token) != params.stop_tokens.end()) {
      out.finish_reason = FinishReason::kStop;
      break;
    }
    if (output.decode) show(stops.push(output.decode(token)));
    if (stops.found()) {
      out.finish_reason = FinishReason::kStopString;
      break;
    }
  }
  out.decode_s = seconds_since(decode_start);
  if (out.decode_tokens > 0) out.decode_bytes_per_token = bytes_read / out.decode_tokens;
  if (output.finish && !stops.found()) {
    show(stops.push(output.finish()));
    if (!stops.found()) show(stops.finish());
  }
  return out;
}

}  // namespace qtool
