#include "cmd/generate_batch.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "cmd/batch_lines.h"
#include "cmd/generate_report.h"
#include "cmd/payload.h"
#include "core/interrupt.h"
#include "core/model/batch.h"
#include "formats/file.h"

namespace qtool {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;
// More sequences at a time gain little once a step is busy with products rather than with reading weights.
constexpr int kMostOnGpu = 128;
constexpr int kMostOnCpu = 32;

// A line of the file on its way to an answer.
struct Entry {
  std::int64_t number = 0;  // of the line, from 1
  std::string_view text;
  std::optional<Json> id;
  GeneratedText about;  // the prompt, and its ids until the line runs
  GenerateParams params;
  std::optional<Error> failure;
  std::string answer;  // until those before it are written
  bool answered = false;
};

std::string where(const Entry& entry) { return "line " + std::to_string(entry.number); }

// The lines that are not blank.
std::vector<Entry> split(std::string_view text) {
  std::vector<Entry> entries;
  std::int64_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Entry& entry = entries.emplace_back();
    entry.number = number;
    entry.text = line;
  }
  return entries;
}

class BatchRun {
 public:
  BatchRun(const CommonOptions& common, const GenerateOptions& options)
      : common_(common),
        options_(options),
        payload_(options.output),
        file_(options.batch_file == "-" ? read_stdin(kMaxFileBytes, "the batch")
                                        : read_input(options.batch_file, kMaxFileBytes)),
        entries_(split(file_)),
        model_(model_folder(common), options.run) {}

  int run() {
    ContinueOptions defaults = options_.more;
    defaults.sampling.logit_bias = parse_biases(options_.logit_bias);
    // The command's own faults come first.
    (void)params_of(defaults, model_.spec(), model_.has_tokenizer());
    const std::int64_t given = context_of(options_, model_.spec(), 1, 0);
    const std::int64_t longest = options_.context > 0 ? given : model_.spec().max_positions;
    std::int64_t needed = 1;
    for (Entry& entry : entries_) {
      try {
        prepare(entry, defaults, longest);
        const auto prompt = static_cast<std::int64_t>(entry.about.prompt_tokens.size());
        needed = std::max(needed, prompt + std::min(entry.params.max_new_tokens, longest - prompt));
      } catch (const Error& error) {
        if (error.code() == ExitCode::kInterrupted) throw;
        fail(entry, error);
      }
    }
    write_answers();
    if (written_ < entries_.size()) run_model(options_.context > 0 ? given : needed);
    return verdict();
  }

 private:
  // What a line asks for, in ids and checked.
  void prepare(Entry& entry, const ContinueOptions& defaults, std::int64_t longest) {
    stop_if_interrupted();
    BatchLine line = parse_batch_line(entry.text, defaults, where(entry), entry.id);
    try {
      entry.params = params_of(line.options, model_.spec(), model_.has_tokenizer(), OptionStyle::kBatchLine);
      set_prompt(entry, line);
      check_prompt(entry.about.prompt_tokens, model_.spec().vocab_size, longest);
    } catch (const Error& error) {
      throw error.within(where(entry));
    }
  }

  void set_prompt(Entry& entry, BatchLine& line) {
    GeneratedText& about = entry.about;
    about.has_text = model_.has_tokenizer();
    if (auto* ids = std::get_if<std::vector<std::int32_t>>(&line.prompt)) {
      about.prompt_tokens = std::move(*ids);
      if (about.has_text)
        about.prompt = model_.tokenizer().decode(with_text(about.prompt_tokens, model_.tokenizer()), false);
      return;
    }
    auto* text = std::get_if<std::string>(&line.prompt);
    const bool chat = !text || is_chat(options_.chat);
    if (!text)
      about.prompt =
          render_chat(model_.folder(), options_.chat, std::get<Conversation>(std::move(line.prompt)));
    else
      about.prompt = chat ? render_chat(model_.folder(), options_.chat, *text) : std::move(*text);
    // A chat template writes its special tokens itself: a second BOS would follow.
    about.prompt_tokens = model_.tokenizer().encode(*about.prompt, !chat);
  }

  void run_model(std::int64_t context) {
    const std::unique_ptr<Backend> backend = make_backend(common_);
    const bool on_gpu = backend->free_bytes().has_value();
    int slots = options_.max_batch;
    if (slots == 0) slots = model_.sequences_that_fit(*backend, context, on_gpu ? kMostOnGpu : kMostOnCpu);
    slots = static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(slots), entries_.size()));
    if (options_.deterministic && !backend->isolate_rows() && slots > 1) {
      spdlog::info("{}: --deterministic means one line after the other on this device", backend->name());
      slots = 1;
    }
    model_.load(*backend, capacity_of(slots, context), common_);
    const auto start = std::chrono::steady_clock::now();
    std::size_t at = 0;
    const BatchFigures figures = run_batch(model_.transformer(), [&]() -> std::optional<BatchRequest> {
      while (at < entries_.size() && entries_[at].failure) ++at;
      if (at == entries_.size()) return std::nullopt;
      return request_of(entries_[at++]);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    log_batch({figures, entries_.size(), failed_, slots, model_.load_seconds(), seconds, backend->name()},
              model_.transformer(), peak_rss_bytes());
  }

  BatchRequest request_of(Entry& entry) {
    BatchRequest request;
    request.prompt = entry.about.prompt_tokens;
    request.params = entry.params;
    if (model_.has_tokenizer()) {
      const std::shared_ptr<StreamDecoder> decoder =
          model_.tokenizer().stream(with_text(request.prompt, model_.tokenizer()), true);
      const std::int32_t known = model_.tokenizer().vocab_size();
      request.output.decode = [decoder, known](std::int32_t id) {
        return id < known ? decoder->push(id) : std::string();
      };
      request.output.finish = [decoder] { return decoder->finish(); };
    }
    request.done = [this, &entry](const BatchResult& result) {
      if (result.failure)
        fail(entry, result.failure->within(where(entry)));
      else
        answer(entry, generation_json(entry.about, result.generation));
      write_answers();
    };
    return request;
  }

  void fail(Entry& entry, const Error& error) {
    entry.failure = error;
    if (first_failed_ == nullptr || entry.number < first_failed_->number) first_failed_ = &entry;
    ++failed_;
    Json document;
    document["error"] = json_of(error);
    answer(entry, std::move(document));
  }

  void answer(Entry& entry, Json document) {
    document["schema"] = "qtool.generate.line/1";
    document["line"] = entry.number;
    if (entry.id) document["id"] = *entry.id;
    entry.answer = document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    entry.answered = true;
    entry.about = {};  // a long file's prompts need not stay
    entry.params = {};
  }

  // Writes what is answered up to the first line that is not.
  void write_answers() {
    for (; written_ < entries_.size() && entries_[written_].answered; ++written_)
      payload_.write(std::exchange(entries_[written_].answer, {}));
  }

  int verdict() const {
    if (failed_ == 0) return 0;
    throw Error(first_failed_->failure->code(),
                std::to_string(failed_) + " of " + std::to_string(entries_.size()) +
                    " lines failed; the first: " + first_failed_->failure->what(),
                options_.batch_file == "-" ? std::string() : options_.batch_file);
  }

  const CommonOptions& common_;
  const GenerateOptions& options_;
  Payload payload_;
  std::string file_;
  std::vector<Entry> entries_;
  LoadedModel model_;
  std::size_t written_ = 0;  // answers
  std::size_t failed_ = 0;
  const Entry* first_failed_ = nullptr;
};

}  // namespace

int generate_batch(const CommonOptions& common, const GenerateOptions& options) {
  return BatchRun(common, options).run();
}

}  // namespace qtool
