#include "cmd/chat.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "cmd/load_model.h"
#include "core/interrupt.h"
#include "core/model/session.h"
#include "core/text/jinja/value.h"
#include "core/text/utf8.h"
#include "formats/chat_template_files.h"

namespace qtool {
namespace {

// The terminal's lines, which the kernel lets people edit. Ctrl-C forgets the line that was begun.
class Lines {
 public:
  // Nothing at the end of input (Ctrl-D). Errors: kInterrupted by SIGTERM, kIo.
  std::optional<std::string> next() {
    std::string line;
    ask();
    for (;;) {
      if (dismiss_interrupt()) {
        line.clear();
        std::fputc('\n', stderr);
        ask();
      }
      stop_if_interrupted();
      if (!something_typed()) continue;
      char c = 0;
      const ssize_t got = ::read(STDIN_FILENO, &c, 1);
      if (got == 1 && c == '\n') return line;
      if (got == 1) line += c;
      if (got == 0) return line.empty() ? std::nullopt : std::optional(line);
      if (got < 0 && errno != EINTR) cannot_read();
    }
  }

 private:
  // Waits a moment for it. Not longer: a signal that comes just before, or to another thread, wakes nobody.
  static bool something_typed() {
    constexpr int kMomentMs = 50;
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const int ready = ::poll(&input, 1, kMomentMs);
    if (ready < 0 && errno != EINTR) cannot_read();
    return ready > 0;
  }

  [[noreturn]] static void cannot_read() {
    throw Error(ExitCode::kIo, std::string("cannot read what is typed: ") + std::strerror(errno));
  }

  static void ask() { std::fputs(">>> ", stderr); }
};

std::string trimmed(const std::string& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlank);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

// What was said so far. A whole prompt is made of it for every answer: templates may show earlier turns in
// another way once a new one follows (without their reasoning, for one), so it does not only grow at its end.
class Transcript {
 public:
  Transcript(const std::string& folder, const ChatOptions& options) : folder_(folder), options_(options) {
    in_template_ = !options.raw && (is_chat(options) || !read_chat_templates(folder).empty());
    if (in_template_) prompt_after("");  // a template that cannot be had says so before the model is loaded
  }

  bool in_template() const { return in_template_; }
  void forget() { turns_.clear(); }

  std::string prompt_after(const std::string& line) const {
    if (!in_template_) {
      std::string text;
      for (const Turn& turn : turns_) text += turn.line + turn.answer;
      return text + line;
    }
    std::vector<jinja::Value> messages;
    const auto add = [&messages](const char* role, const std::string& content) {
      messages.push_back(jinja::make_dict({{"role", std::string(role)}, {"content", content}}));
    };
    for (const Turn& turn : turns_) {
      add("user", turn.line);
      add("assistant", trimmed(turn.answer));
    }
    add("user", line);
    return render_chat(folder_, options_, Conversation{jinja::make_list(std::move(messages)), {}});
  }

  void add(const std::string& line, const std::string& answer) { turns_.push_back({line, answer}); }

 private:
  struct Turn {
    std::string line, answer;
  };
  std::string folder_;
  ChatOptions options_;
  bool in_template_ = false;
  std::vector<Turn> turns_;
};

// The answer as far as it came; the rest is cut off by Ctrl-C.
std::string answer_to(const std::vector<std::int32_t>& prompt, const GenerateParams& params,
                      LoadedModel& model) {
  const Tokenizer& tokenizer = model.tokenizer();
  const std::unique_ptr<StreamDecoder> decoder = tokenizer.stream(with_text(prompt, tokenizer), true);
  std::string answer;
  TextOutput output;
  output.decode = [&](std::int32_t id) {
    return id < tokenizer.vocab_size() ? decoder->push(id) : std::string();
  };
  output.finish = [&] { return decoder->finish(); };
  output.show = [&](std::string_view text) {
    answer += text;
    print_out(text);
  };
  try {
    generate(model.transformer(), prompt, params, output);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kInterrupted || !dismiss_interrupt()) throw;
  }
  print_out(answer.ends_with('\n') ? "" : "\n");
  return answer;
}

}  // namespace

bool wants_chat(const CommonOptions& common, const GenerateOptions& options) {
  const bool prompt = options.prompt_given || !options.prompt_file.empty() ||
                      !options.prompt_tokens.empty() || !options.batch_file.empty() ||
                      !options.chat.messages.empty();
  return !prompt && !options.print_prompt && !common.json && options.output.empty() &&
         isatty(STDIN_FILENO) != 0;
}

int chat(const CommonOptions& common, const GenerateOptions& options) {
  LoadedModel model(model_folder(common), options.run);
  const Tokenizer& tokenizer = model.tokenizer();
  Transcript transcript(model.folder(), options.chat);
  ContinueOptions more = options.more;
  more.sampling.logit_bias = parse_biases(options.logit_bias);
  const GenerateParams params = params_of(more, model.spec(), true);
  const std::int64_t context = context_of(options, model.spec(), 0, params.max_new_tokens);
  const std::unique_ptr<Backend> backend = make_backend(common);
  model.load(*backend, capacity_of(1, context), common);

  spdlog::info("{}, {}: {}. Ctrl-C stops an answer, /clear forgets what was said, Ctrl-D ends.",
               escaped(model.folder()), model.scheme(),
               transcript.in_template() ? "a conversation" : "no chat template, so the text is continued");
  Lines lines;
  while (const std::optional<std::string> line = lines.next()) {
    if (trimmed(*line).empty()) continue;
    if (trimmed(*line) == "/clear") {
      transcript.forget();
      continue;
    }
    if (!is_valid_utf8(*line)) {
      spdlog::warn("that is no valid UTF-8");
      continue;
    }
    const std::vector<std::int32_t> prompt =
        tokenizer.encode(transcript.prompt_after(*line), !transcript.in_template());
    if (static_cast<std::int64_t>(prompt.size()) >= context) {
      spdlog::warn(
          "with that the conversation has {} tokens, more than the context of {}; /clear begins a new one",
          prompt.size(), context);
      continue;
    }
    transcript.add(*line, answer_to(prompt, params, model));
  }
  std::fputc('\n', stderr);
  return 0;
}

}  // namespace qtool
