#include "cmd/generate_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <unistd.h>

#include "cmd/model_plan.h"
#include "core/interrupt.h"
#include "formats/file.h"

namespace qtool {
namespace {

constexpr std::int64_t kMaxPromptBytes = std::int64_t{64} << 20;
constexpr int kMostSequences = 4096;

Error usage(const std::string& sentence) { return {ExitCode::kUsage, sentence}; }

template <typename Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size();
}

void check_sampling(const SamplingParams& p, std::int64_t vocab, OptionStyle style) {
  const auto inside = [](double value, double low, double high) { return value >= low && value <= high; };
  const auto need = [style](bool holds, const char* option, const char* what) {
    if (!holds) throw usage(named(option, style) + " " + what);
  };
  need(std::isfinite(p.temperature) && p.temperature >= 0.0, "temperature", "must be 0 (greedy) or more");
  need(p.top_k >= 0, "top-k", "must be 0 (off) or more");
  need(inside(p.top_p, 0.0, 1.0), "top-p", "must lie between 0 and 1");
  need(inside(p.min_p, 0.0, 1.0), "min-p", "must lie between 0 and 1");
  need(inside(p.typical_p, 0.0, 1.0) && p.typical_p > 0.0, "typical-p", "must be above 0 and at most 1");
  need(std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0.0, "repetition-penalty",
       "must be a positive number");
  need(p.no_repeat_ngram >= 0, "no-repeat-ngram-size", "must be 0 (off) or more");
  for (const auto& [id, bias] : p.logit_bias) {
    need(!std::isnan(bias) && bias < std::numeric_limits<float>::infinity(), "logit-bias",
         "must be a number, or -inf");
    if (id < 0 || id >= vocab)
      throw usage(named("logit-bias", style) + ": token id " + std::to_string(id) +
                  " is outside the vocabulary of " + std::to_string(vocab));
  }
}

void add_prompt_options(CLI::App& app, GenerateOptions& options) {
  app.option_defaults()->group("Prompt and output");
  ContinueOptions& more = options.more;
  CLI::Option* text =
      option(app, "-p,--prompt", options.prompt,
             "text to continue; left out: stdin, when piped, or at a terminal a conversation");
  CLI::Option* file =
      option(app, "-f,--prompt-file", options.prompt_file, "file with the text, taken as it is; -: stdin")
          ->type_name("FILE");
  CLI::Option* ids =
      option(app, "--prompt-tokens", options.prompt_tokens, "ids instead of text: 1,2,3; nothing is added")
          ->type_name("ID,...");
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  text->each([&options](const std::string&) { options.prompt_given = true; });
  option(app, "-n,--max-new-tokens", more.max_new_tokens, "tokens to generate at most")
      ->capture_default_str();
  option(app, "--context", options.context,
         "positions to allocate; 0: what is needed, at least 4096 where the model allows")
      ->capture_default_str();
  option(app, "--stop", more.stop, "end before this text; repeatable")->allow_extra_args(false);
  option(app, "--stop-token", more.stop_tokens,
         "end after this token id, besides the model's own; repeatable")
      ->allow_extra_args(false);
  flag(app, "--ignore-eos", more.ignore_eos, "do not end at the model's end-of-sequence tokens");
  CLI::Option* print = flag(app, "--print-prompt", options.print_prompt,
                            "print the prompt as the model would get it, and stop");
  CLI::Option* echo = flag(app, "--echo", options.echo, "print the prompt before its continuation");
  flag(app, "--no-stream", options.no_stream, "print the text at the end, not while it grows");
  option(app, "-o,--output", options.output, "file for what would go to stdout")->type_name("FILE");
  option(app, "--logprobs", more.logprobs,
         "with --json: log-probability of every new token and of the N likeliest");
  option(app, "--prompt-logprobs", more.prompt_logprobs, "with --json: the same for the prompt's tokens");

  app.option_defaults()->group("Many prompts");
  CLI::Option* batch = option(app, "--batch-file", options.batch_file,
                              "JSON lines, one prompt each; -: stdin. One JSON line comes out for each")
                           ->type_name("FILE");
  batch->excludes(text)->excludes(file)->excludes(ids)->excludes(print)->excludes(echo);
  option(app, "--max-batch,--batch", options.max_batch,
         "prompts continued at the same time; 0: as memory allows")
      ->check(CLI::Range(0, kMostSequences))
      ->capture_default_str();
  flag(app, "--deterministic", options.deterministic,
       "a prompt gets the same tokens in any company, alone too; slower");
}

void add_sampling_options(CLI::App& app, GenerateOptions& options) {
  SamplingParams& sampling = options.more.sampling;
  app.option_defaults()->group("Sampling (greedy unless one of the first six is given)");
  const auto asks = [&options](CLI::Option* added) {
    added->capture_default_str()->each(
        [&options](const std::string&) { options.more.sampling_asked = true; });
  };
  flag(app, "--sample", sampling.sample, "draw from the model's distribution");
  asks(option(app, "--temperature,--temp", sampling.temperature, "divides the logits; 0 is greedy"));
  asks(option(app, "--top-k", sampling.top_k, "keep the K likeliest tokens; 0: all"));
  asks(option(app, "--top-p", sampling.top_p,
              "keep the likeliest tokens that together reach this probability"));
  asks(option(app, "--min-p", sampling.min_p, "keep tokens at least this likely relative to the likeliest"));
  asks(option(app, "--typical-p", sampling.typical_p,
              "keep the tokens of most typical surprise up to this probability"));
  option(app, "--repetition-penalty,--repeat-penalty", sampling.repetition_penalty,
         "above 1: tokens of prompt and output become less likely")
      ->capture_default_str();
  option(app, "--no-repeat-ngram-size", sampling.no_repeat_ngram, "no N tokens in a row appear twice; 0: off")
      ->capture_default_str();
  option(app, "--logit-bias", options.logit_bias,
         "ID=X adds X to a token's logit; -inf forbids it; repeatable")
      ->allow_extra_args(false);
  option(app, "--seed", sampling.seed, "same seed, same tokens")->capture_default_str();
}

}  // namespace

void add_generate_options(CLI::App& app, GenerateOptions& options) {
  add_prompt_options(app, options);
  const ChatFlags chat = add_chat_options(app, options.chat);
  for (const char* other : {"--prompt", "--prompt-file", "--prompt-tokens", "--batch-file"})
    chat.messages->excludes(app.get_option(other));
  add_sampling_options(app, options);
  add_run_options(app, options.run);
}

std::string named(std::string_view option, OptionStyle style) {
  if (style == OptionStyle::kCommandLine) return "--" + std::string(option);
  std::string key(option);
  std::replace(key.begin(), key.end(), '-', '_');
  return "'" + key + "'";
}

GenerateParams params_of(const ContinueOptions& options, const ModelSpec& spec, bool has_tokenizer,
                         OptionStyle style) {
  GenerateParams params;
  if (options.max_new_tokens < 0) throw usage(named("max-new-tokens", style) + " must be 0 or more");
  params.max_new_tokens = options.max_new_tokens;
  check_sampling(options.sampling, spec.vocab_size, style);
  params.sampling = options.sampling;
  params.sampling.sample =
      (options.sampling.sample || options.sampling_asked) && options.sampling.temperature > 0.0;
  if (!options.ignore_eos) params.stop_tokens = spec.eos_ids;
  params.stop_tokens.insert(params.stop_tokens.end(), options.stop_tokens.begin(), options.stop_tokens.end());
  for (const std::string& stop : options.stop) {
    if (stop.empty()) throw usage(named("stop", style) + " must not be empty");
    if (!has_tokenizer)
      throw usage(named("stop", style) + " needs text, and this model has no tokenizer; use " +
                  named("stop-token", style));
  }
  params.stop_strings = options.stop;
  const auto best = [&](std::int64_t count, const char* option) -> std::optional<std::int64_t> {
    if (count == -1) return std::nullopt;
    if (count < 0 || count > spec.vocab_size)
      throw usage(named(option, style) + " must lie between 0 and the vocabulary's size, " +
                  std::to_string(spec.vocab_size));
    return count;
  };
  params.logprobs = best(options.logprobs, "logprobs");
  params.prompt_logprobs = best(options.prompt_logprobs, "prompt-logprobs");
  return params;
}

std::vector<std::pair<std::int32_t, float>> parse_biases(std::span<const std::string> texts) {
  std::vector<std::pair<std::int32_t, float>> biases;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    std::int32_t id = 0;
    float bias = 0.0f;
    if (equals == std::string::npos || !parse_number(std::string_view(text).substr(0, equals), id) ||
        !parse_number(std::string_view(text).substr(equals + (text[equals + 1] == '+' ? 2 : 1)), bias) ||
        std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      throw usage("--logit-bias must be ID=X with a number X, such as 42=-1.5 or 42=-inf; is '" +
                  escaped(text) + "'");
    biases.emplace_back(id, bias);
  }
  return biases;
}

std::vector<std::int32_t> parse_ids(std::string_view text) {
  std::vector<std::int32_t> ids;
  constexpr std::string_view kSeparators = ", \t\r\n";
  for (std::size_t at = text.find_first_not_of(kSeparators); at != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (!parse_number(word, ids.emplace_back()))
      throw usage("--prompt-tokens must be ids such as 1,2,3; '" + escaped(word) + "' is none");
    at = text.find_first_not_of(kSeparators, end);
  }
  return ids;
}

std::int64_t context_of(const GenerateOptions& options, const ModelSpec& spec, std::int64_t prompt_tokens,
                        std::int64_t new_tokens) {
  if (options.context < 0 || options.context > kMaxContextTokens)
    throw usage("--context must lie between 1 and " + std::to_string(kMaxContextTokens));
  check_context(options.context, spec);
  if (options.context > 0) return options.context;
  const std::int64_t room = kMaxContextTokens - prompt_tokens;
  return default_context_tokens(spec, prompt_tokens + std::min(new_tokens, room));
}

std::string prompt_text(const GenerateOptions& options) {
  if (!options.prompt_file.empty() && options.prompt_file != "-")
    return read_input(options.prompt_file, kMaxPromptBytes);
  if (options.prompt_given) return options.prompt;
  if (options.prompt_file.empty() && isatty(STDIN_FILENO) != 0)
    throw usage("no prompt: give --prompt, --prompt-file or --prompt-tokens, or pipe one in");
  std::string text = read_stdin(kMaxPromptBytes, "the prompt");
  if (text.empty()) throw usage("no prompt: stdin is empty; give --prompt, --prompt-file or --prompt-tokens");
  return text;
}

std::string read_stdin(std::int64_t max_bytes, const char* what) {
  std::string text;
  char buffer[1 << 16];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) {
    text.append(buffer, got);
    if (static_cast<std::int64_t>(text.size()) > max_bytes)
      throw usage(std::string(what) + " on stdin is over " + std::to_string(max_bytes >> 20) + " MiB");
  }
  stop_if_interrupted();  // which ends a read early
  return text;
}

std::vector<std::int32_t> with_text(std::span<const std::int32_t> ids, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> known;
  for (const std::int32_t id : ids)
    if (id >= 0 && id < tokenizer.vocab_size()) known.push_back(id);
  return known;
}

}  // namespace qtool
