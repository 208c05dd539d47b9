// qtool generate: continue a prompt.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "cmd/chat_prompt.h"
#include "cmd/cli.h"
#include "cmd/generate_report.h"
#include "cmd/load_model.h"
#include "core/model/session.h"
#include "formats/file.h"

namespace qtool {
namespace {

constexpr std::int64_t kMaxPromptBytes = std::int64_t{64} << 20;

struct Options {
  std::string prompt, prompt_file, prompt_tokens;
  bool prompt_given = false;
  ChatOptions chat;
  bool print_prompt = false;
  RunOptions run;
  std::int64_t max_new_tokens = 128;
  std::int64_t context = 0;  // 0: as much as the run needs
  SamplingParams sampling;
  bool sampling_asked = false;
  std::vector<std::string> stop, logit_bias;
  std::vector<std::int64_t> stop_tokens;
  bool ignore_eos = false, echo = false, no_stream = false;
  std::string output;
  std::int64_t logprobs = -1, prompt_logprobs = -1;  // -1: not asked for
};

Error usage(const std::string& sentence) { return {ExitCode::kUsage, sentence}; }

std::string read_stdin() {
  std::string text;
  char buffer[1 << 16];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) {
    text.append(buffer, got);
    if (static_cast<std::int64_t>(text.size()) > kMaxPromptBytes)
      throw usage("the prompt on stdin is over 64 MiB");
  }
  return text;
}

template <typename Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size();
}

// "1,2,3" or "1 2 3"
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

// "ID=X"
std::pair<std::int32_t, float> parse_bias(const std::string& text, std::int64_t vocab) {
  const std::size_t equals = text.find('=');
  std::int32_t id = 0;
  float bias = 0.0f;
  if (equals == std::string::npos || !parse_number(std::string_view(text).substr(0, equals), id) ||
      !parse_number(std::string_view(text).substr(equals + (text[equals + 1] == '+' ? 2 : 1)), bias) ||
      std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
    throw usage("--logit-bias must be ID=X with a number X, such as 42=-1.5 or 42=-inf; is '" +
                escaped(text) + "'");
  if (id < 0 || id >= vocab)
    throw usage("--logit-bias: token id " + std::to_string(id) + " is outside the vocabulary of " +
                std::to_string(vocab));
  return {id, bias};
}

void check_sampling(const SamplingParams& p) {
  const auto inside = [](double value, double low, double high) { return value >= low && value <= high; };
  if (!std::isfinite(p.temperature) || p.temperature < 0.0)
    throw usage("--temperature must be 0 (greedy) or more");
  if (p.top_k < 0) throw usage("--top-k must be 0 (off) or more");
  if (!inside(p.top_p, 0.0, 1.0)) throw usage("--top-p must lie between 0 and 1");
  if (!inside(p.min_p, 0.0, 1.0)) throw usage("--min-p must lie between 0 and 1");
  if (!inside(p.typical_p, 0.0, 1.0) || p.typical_p == 0.0)
    throw usage("--typical-p must be above 0 and at most 1");
  if (!std::isfinite(p.repetition_penalty) || p.repetition_penalty <= 0.0)
    throw usage("--repetition-penalty must be a positive number");
  if (p.no_repeat_ngram < 0) throw usage("--no-repeat-ngram-size must be 0 (off) or more");
}

// The prompt as text, unless it was given as ids.
std::string prompt_text(const Options& options) {
  if (!options.prompt_file.empty() && options.prompt_file != "-")
    return read_file(options.prompt_file, kMaxPromptBytes);
  if (options.prompt_given) return options.prompt;
  if (options.prompt_file.empty() && isatty(STDIN_FILENO) != 0)
    throw usage("no prompt: give --prompt, --prompt-file or --prompt-tokens, or pipe one in");
  std::string text = read_stdin();
  if (text.empty()) throw usage("no prompt: stdin is empty; give --prompt, --prompt-file or --prompt-tokens");
  return text;
}

GenerateParams params_of(const Options& options, const ModelSpec& spec, bool has_tokenizer) {
  GenerateParams params;
  if (options.max_new_tokens < 0) throw usage("--max-new-tokens must be 0 or more");
  params.max_new_tokens = options.max_new_tokens;
  check_sampling(options.sampling);
  params.sampling = options.sampling;
  params.sampling.sample =
      (options.sampling.sample || options.sampling_asked) && options.sampling.temperature > 0.0;
  for (const std::string& bias : options.logit_bias)
    params.sampling.logit_bias.push_back(parse_bias(bias, spec.vocab_size));
  if (!options.ignore_eos) params.stop_tokens = spec.eos_ids;
  params.stop_tokens.insert(params.stop_tokens.end(), options.stop_tokens.begin(), options.stop_tokens.end());
  for (const std::string& stop : options.stop) {
    if (stop.empty()) throw usage("--stop must not be empty");
    if (!has_tokenizer) throw usage("--stop needs text, and this model has no tokenizer; use --stop-token");
  }
  params.stop_strings = options.stop;
  const auto best = [&](std::int64_t count, const char* name) -> std::optional<std::int64_t> {
    if (count == -1) return std::nullopt;
    if (count < 0 || count > spec.vocab_size)
      throw usage(std::string(name) + " must lie between 0 and the vocabulary's size, " +
                  std::to_string(spec.vocab_size));
    return count;
  };
  params.logprobs = best(options.logprobs, "--logprobs");
  params.prompt_logprobs = best(options.prompt_logprobs, "--prompt-logprobs");
  return params;
}

std::int64_t context_of(const Options& options, const ModelSpec& spec, std::int64_t prompt_tokens) {
  if (options.context < 0 || options.context > kMaxContextTokens)
    throw usage("--context must lie between 1 and " + std::to_string(kMaxContextTokens));
  if (options.context > spec.max_positions)
    spdlog::warn(
        "--context {} is more than the {} positions this model was made for; its output may be poor there",
        options.context, spec.max_positions);
  if (options.context > 0) return options.context;
  const std::int64_t room = kMaxContextTokens - prompt_tokens;
  return default_context_tokens(spec, prompt_tokens + std::min(options.max_new_tokens, room));
}

// Where the payload goes: stdout, or the file of --output.
class Payload {
 public:
  explicit Payload(const std::string& path) {
    if (!path.empty()) file_.emplace(path);
  }
  void write(std::string_view text) {
    if (text.empty()) return;
    last_ = text.back();
    if (!file_) return print_out(text);
    file_->write_at(written_, std::as_bytes(std::span(text)));
    written_ += static_cast<std::int64_t>(text.size());
  }
  void end_line() {
    if (last_ != '\n') write("\n");
  }

 private:
  std::optional<OutputFile> file_;
  std::int64_t written_ = 0;
  char last_ = 0;
};

std::string joined(std::span<const std::int32_t> ids) {
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

// Ids that have a token: a model may have more rows than its tokenizer, to fill a round number.
std::vector<std::int32_t> with_text(std::span<const std::int32_t> ids, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> known;
  for (const std::int32_t id : ids)
    if (id >= 0 && id < tokenizer.vocab_size()) known.push_back(id);
  return known;
}

// The text the model continues.
std::string full_prompt(const std::string& folder, const Options& options) {
  if (!is_chat(options.chat)) return prompt_text(options);
  if (!options.chat.messages.empty()) return render_chat(folder, options.chat, std::nullopt);
  return render_chat(folder, options.chat, prompt_text(options));
}

// --print-prompt: needs the tokenizer's files at most.
int show_prompt(const CommonOptions& common, const Options& options) {
  const std::string prompt = full_prompt(model_folder(common), options);
  Payload payload(options.output);
  if (!common.json) {
    payload.write(prompt);  // exactly: no line end is added
    return 0;
  }
  const Json document = {{"schema", "qtool.generate/1"}, {"prompt", prompt}};
  payload.write(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  return 0;
}

int run(const CommonOptions& common, const Options& options) {
  if (!options.prompt_tokens.empty() && (is_chat(options.chat) || options.print_prompt))
    throw usage("--prompt-tokens does not go with chat options and --print-prompt: it gives ids, not text");
  if (options.print_prompt) return show_prompt(common, options);
  if (!common.json && (options.logprobs != -1 || options.prompt_logprobs != -1))
    throw usage("--logprobs and --prompt-logprobs are part of the JSON document; add --json");
  LoadedModel model(model_folder(common), options.run);
  GeneratedText about;
  std::vector<std::int32_t> prompt = parse_ids(options.prompt_tokens);
  if (options.prompt_tokens.empty()) {
    about.prompt = full_prompt(model.folder(), options);
    // A chat template writes its special tokens itself: a second BOS would follow.
    prompt = model.tokenizer().encode(*about.prompt, !is_chat(options.chat));
  } else if (model.has_tokenizer()) {
    about.prompt = model.tokenizer().decode(with_text(prompt, model.tokenizer()), false);
  } else {
    spdlog::warn("this model has no tokenizer: ids go in and come out");
  }
  const GenerateParams params = params_of(options, model.spec(), model.has_tokenizer());
  const std::int64_t context = context_of(options, model.spec(), static_cast<std::int64_t>(prompt.size()));

  Payload payload(options.output);
  const std::unique_ptr<Backend> backend = make_backend(common);
  model.load(*backend, capacity_of(1, context), common);

  TextOutput output;
  std::unique_ptr<StreamDecoder> decoder;
  const bool as_text = !common.json;
  if (model.has_tokenizer()) {
    decoder = model.tokenizer().stream(with_text(prompt, model.tokenizer()), true);
    output.decode = [&](std::int32_t id) {
      return id < model.tokenizer().vocab_size() ? decoder->push(id) : std::string();
    };
    output.finish = [&] { return decoder->finish(); };
    if (as_text && !options.no_stream) output.show = [&](std::string_view text) { payload.write(text); };
    if (as_text && options.echo) payload.write(*about.prompt);
  } else if (as_text && options.echo) {
    payload.write(joined(prompt) + ",");
  }
  const Generation generation = generate(model.transformer(), prompt, params, output);
  if (!model.has_tokenizer()) {
    if (as_text) payload.write(joined(generation.tokens));
  } else if (as_text && options.no_stream) {
    payload.write(generation.text);
  }

  about.prompt_tokens = prompt;
  about.has_text = model.has_tokenizer();
  about.device = backend->name();
  about.load_s = model.load_seconds();
  if (common.json)
    payload.write(generate_report(about, generation, model.transformer(), peak_rss_bytes())
                      .dump(-1, ' ', false, Json::error_handler_t::replace));
  payload.end_line();
  log_summary(about, generation, model.transformer(), peak_rss_bytes());
  return 0;
}

void add_prompt_options(CLI::App& app, Options& options) {
  app.option_defaults()->group("Prompt and output");
  CLI::Option* text =
      option(app, "-p,--prompt", options.prompt, "text to continue; left out: stdin, when piped");
  CLI::Option* file =
      option(app, "-f,--prompt-file", options.prompt_file, "file with the text, taken as it is; -: stdin");
  CLI::Option* ids =
      option(app, "--prompt-tokens", options.prompt_tokens, "ids instead of text: 1,2,3; nothing is added");
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  text->each([&options](const std::string&) { options.prompt_given = true; });
  option(app, "-n,--max-new-tokens", options.max_new_tokens, "tokens to generate at most")
      ->capture_default_str();
  option(app, "--context", options.context,
         "positions to allocate; 0: what is needed, at least 4096 where the model allows")
      ->capture_default_str();
  option(app, "--stop", options.stop, "end before this text; repeatable")->allow_extra_args(false);
  option(app, "--stop-token", options.stop_tokens,
         "end after this token id, besides the model's own; repeatable")
      ->allow_extra_args(false);
  flag(app, "--ignore-eos", options.ignore_eos, "do not end at the model's end-of-sequence tokens");
  flag(app, "--print-prompt", options.print_prompt, "print the prompt as the model would get it, and stop");
  flag(app, "--echo", options.echo, "print the prompt before its continuation");
  flag(app, "--no-stream", options.no_stream, "print the text at the end, not while it grows");
  option(app, "-o,--output", options.output, "file for what would go to stdout");
  option(app, "--logprobs", options.logprobs,
         "with --json: log-probability of every new token and of the N likeliest");
  option(app, "--prompt-logprobs", options.prompt_logprobs, "with --json: the same for the prompt's tokens");
}

void add_sampling_options(CLI::App& app, Options& options) {
  SamplingParams& sampling = options.sampling;
  app.option_defaults()->group("Sampling (greedy unless one of the first six is given)");
  const auto asks = [&options](CLI::Option* added) {
    added->capture_default_str()->each([&options](const std::string&) { options.sampling_asked = true; });
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

std::function<int()> declare_generate(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<Options>();
  add_prompt_options(app, *options);
  const ChatFlags chat = add_chat_options(app, options->chat);
  for (const char* other : {"--prompt", "--prompt-file", "--prompt-tokens"})
    chat.messages->excludes(app.get_option(other));
  add_sampling_options(app, *options);
  add_run_options(app, options->run);
  app.footer(
      "Examples:\n"
      "  qtool generate --prompt \"The capital of France is\"\n"
      "  qtool generate ./llama-3.2-1b --bits 4 --double-quant -p \"Once upon a time\" --temperature 0.8 "
      "--top-p 0.95\n"
      "  qtool generate ./model -f notes.txt --stop \"\\n\\n\" -n 200 --json > answer.json\n"
      "  qtool generate ./model --chat --system \"Be brief.\" -p \"What is a monad?\"\n"
      "  echo \"Dear\" | qtool generate ./model -n 20\n"
      "\n" +
      app.get_footer());
  return [&common, options] { return run(common, *options); };
}

}  // namespace qtool
