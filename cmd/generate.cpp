// qtool generate: continue a prompt, or a file of them.
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "cmd/batch_lines.h"
#include "cmd/chat.h"
#include "cmd/cli.h"
#include "cmd/generate_batch.h"
#include "cmd/generate_options.h"
#include "cmd/generate_report.h"
#include "cmd/payload.h"

namespace qtool {
namespace {

Error usage(const std::string& sentence) { return {ExitCode::kUsage, sentence}; }

std::string joined(std::span<const std::int32_t> ids) {
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

// The text the model continues.
std::string full_prompt(const std::string& folder, const GenerateOptions& options) {
  if (!is_chat(options.chat)) return prompt_text(options);
  if (!options.chat.messages.empty()) return render_chat(folder, options.chat, std::nullopt);
  return render_chat(folder, options.chat, prompt_text(options));
}

// --print-prompt: needs the tokenizer's files at most.
int show_prompt(const CommonOptions& common, const GenerateOptions& options) {
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

int generate_one(const CommonOptions& common, const GenerateOptions& options) {
  if (!common.json && (options.more.logprobs != -1 || options.more.prompt_logprobs != -1))
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
  ContinueOptions more = options.more;
  more.sampling.logit_bias = parse_biases(options.logit_bias);
  const GenerateParams params = params_of(more, model.spec(), model.has_tokenizer());
  const std::int64_t context =
      context_of(options, model.spec(), static_cast<std::int64_t>(prompt.size()), params.max_new_tokens);
  check_prompt(prompt, model.spec().vocab_size, context);

  Payload payload(options.output);
  const std::unique_ptr<Backend> backend = make_backend(common);
  if (options.deterministic)
    backend->isolate_rows();  // a device that cannot runs one sequence at a time here
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

int run(const CommonOptions& common, const GenerateOptions& options) {
  if (!options.prompt_tokens.empty() && (is_chat(options.chat) || options.print_prompt))
    throw usage("--prompt-tokens does not go with chat options and --print-prompt: it gives ids, not text");
  if (wants_chat(common, options)) return chat(common, options);
  if (options.print_prompt) return show_prompt(common, options);
  return options.batch_file.empty() ? generate_one(common, options) : generate_batch(common, options);
}

}  // namespace

std::function<int()> declare_generate(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<GenerateOptions>();
  add_generate_options(app, *options);
  add_help(
      app,
      {"A line of --batch-file is a JSON string, the prompt, or an object with these keys: " +
       batch_line_keys() +
       ". Options given on the command line hold for lines without their own. "
       "Answers come in the order of the lines, which are numbered from 1; blank lines have none. A line "
       "that "
       "fails has its error in its place and the others go on; the exit code is then that of the first that "
       "failed. Sampling depends on a line's seed alone; with --deterministic nothing of an answer depends "
       "on "
       "the other lines."},
      {"qtool generate                          # at a terminal: a conversation",
       "qtool generate --prompt \"The capital of France is\"",
       "qtool generate ./llama-3.2-1b --bits 4 --double-quant -p \"Once upon a time\" --temperature 0.8",
       "qtool generate ./model -f notes.txt --stop \"\\n\\n\" -n 200 --json > answer.json",
       "qtool generate ./model --chat --system \"Be brief.\" -p \"What is a monad?\"",
       "echo \"Dear\" | qtool generate ./model -n 20",
       "qtool generate ./model --batch-file prompts.jsonl -n 64 > answers.jsonl"});
  return [&common, options] { return run(common, *options); };
}

}  // namespace qtool
