// The options of generate, and what they mean for a model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/chat_prompt.h"
#include "cmd/cli.h"
#include "cmd/load_model.h"
#include "core/model/session.h"

namespace qtool {

// How a prompt is continued: what each line of a batch may have its own of.
struct ContinueOptions {
  std::int64_t max_new_tokens = 128;
  SamplingParams sampling;
  bool sampling_asked = false;  // by an option that only sampling heeds
  std::vector<std::string> stop;
  std::vector<std::int64_t> stop_tokens;
  bool ignore_eos = false;
  std::int64_t logprobs = -1, prompt_logprobs = -1;  // -1: not asked for
};

struct GenerateOptions {
  std::string prompt, prompt_file, prompt_tokens, batch_file;
  bool prompt_given = false;
  ChatOptions chat;
  bool print_prompt = false;
  RunOptions run;
  ContinueOptions more;
  std::vector<std::string> logit_bias;  // of `more.sampling`, as typed
  std::int64_t context = 0;             // 0: as much as the run needs
  int max_batch = 0;                    // 0: as memory allows
  bool deterministic = false;
  bool echo = false, no_stream = false;
  std::string output;
};

void add_generate_options(CLI::App& app, GenerateOptions& options);

// How options are called in sentences: "--top-k" on the command line, "'top_k'" in a line of a batch.
enum class OptionStyle { kCommandLine, kBatchLine };
std::string named(std::string_view option, OptionStyle style);

// Checked for this model. Errors: kUsage.
GenerateParams params_of(const ContinueOptions& options, const ModelSpec& spec, bool has_tokenizer,
                         OptionStyle style = OptionStyle::kCommandLine);

// --logit-bias as typed, "ID=X" each. Errors: kUsage.
std::vector<std::pair<std::int32_t, float>> parse_biases(std::span<const std::string> texts);

// "1,2,3" or "1 2 3". Errors: kUsage.
std::vector<std::int32_t> parse_ids(std::string_view text);

// Positions to allocate for a sequence of so many tokens. Errors: kUsage for a --context out of range.
std::int64_t context_of(const GenerateOptions& options, const ModelSpec& spec, std::int64_t prompt_tokens,
                        std::int64_t new_tokens);

// The prompt's text, from the command line, its file or stdin. Errors: kUsage, kNotFound, kIo.
std::string prompt_text(const GenerateOptions& options);

// All of stdin. Errors: kUsage when it is over `max_bytes`; `what` names it.
std::string read_stdin(std::int64_t max_bytes, const char* what);

// Ids that have a token: a model may have more rows than its tokenizer, to fill a round number.
std::vector<std::int32_t> with_text(std::span<const std::int32_t> ids, const Tokenizer& tokenizer);

}  // namespace qtool
