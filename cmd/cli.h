// What every subcommand shares: the model argument, device, threads, logging, --json, progress, and how a
// subcommand is declared.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/machine.h"
#include "core/model/backend.h"
#include "core/quant/quantizer.h"
#include "formats/checkpoint.h"
#include "formats/json.h"

namespace qtool {

// Options of every subcommand, as typed and defaulted.
struct CommonOptions {
  std::string model;            // resolve with model_folder()
  std::string device = "auto";  // auto | cpu | cuda | cuda:N
  int threads = 0;              // 0: all the machine (or OMP_NUM_THREADS) gives
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  std::string log_level;
  std::string log_file;
  std::string color = "auto";  // auto | always | never
  bool offline = false;
  std::string revision;
};

enum class Takes { kModel, kNoModel };  // the positional MODEL
enum class Shown { kYes, kNo };         // in `qtool --help` and in completions of a command's name

// One row of the program: `declare` adds the options to `app` and returns what to run once they are parsed;
// the run returns the exit code of a success (0, or kVerification for a failed threshold) and throws Error
// otherwise.
struct Subcommand {
  std::string_view name;
  std::string_view summary;  // one line in `qtool --help`
  std::function<int()> (*declare)(CLI::App& app, const CommonOptions& common);
  Takes takes = Takes::kModel;
  Shown shown = Shown::kYes;
};

std::function<int()> declare_quantize(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_inspect(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_footprint(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_generate(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_tokenize(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_evaluate(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_bench(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_pull(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_doctor(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_completions(CLI::App& app, const CommonOptions& common);
std::function<int()> declare_manual(CLI::App& app, const CommonOptions& common);

// Adds an option with its environment twin: "--max-ram" <- $QTOOL_MAX_RAM. Prefer these over app.add_option.
template <typename T>
CLI::Option* option(CLI::App& app, const std::string& names, T& value, const std::string& help);
CLI::Option* flag(CLI::App& app, const std::string& names, bool& value, const std::string& help);
// A list: "--skip-modules a,b --skip-modules c". Each occurrence takes one word, so a positional may follow.
CLI::Option* list_option(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                         const std::string& help);

// What a command's --help and the manual say after its options: paragraphs, and command lines to copy.
// Neither is wrapped where it is written: they are fitted to where they are shown.
void add_help(CLI::App& app, const std::vector<std::string>& paragraphs,
              const std::vector<std::string>& examples);

// The folder of the model named on the command line, by $QTOOL_MODEL, or the demo model that ships with
// qtool. Errors: kNotFound, saying where it looked.
std::string model_folder(const CommonOptions& common);
// The same where no weights are needed: of a Hub model that is not in the cache only small files are fetched.
std::string small_files_folder(const CommonOptions& common);
// The checkpoint, of which headers and small tensors will be read: a Hub model that is not in the cache is
// not downloaded for that, its weights are read by range requests.
Checkpoint open_headers(const CommonOptions& common);

// Backend and quantizer of --device. `auto` is the first GPU, or the CPU where there is none.
std::unique_ptr<Backend> make_backend(const CommonOptions& common);
std::unique_ptr<Quantizer> make_quantizer(const CommonOptions& common);
int thread_count(const CommonOptions& common);

// The payload. stdout carries nothing else. Errors: kIo when stdout cannot be written; kInterrupted after
// Ctrl-C; a closed pipe ends the program quietly (ClosedPipe).
void print_out(std::string_view text);
void print_json(const Json& document);  // one object on one line; invisible characters as \uXXXX

// How an error looks in JSON: {"code":4,"kind":"malformed","message":"...","path":null}.
Json json_of(const Error& error);

// Whoever read stdout has gone. Only main catches it: exit code 141, no message, as for any program in a
// pipe.
struct ClosedPipe {};

// The scheme options that quantize, footprint, generate and evaluate share: --bits --quant-type
// --double-quant
// --block-size --int8-threshold --compute-dtype --quant-storage --skip-modules.
struct SchemeOptions {
  int bits = 4;
  std::string quant_type = "nf4";
  bool double_quant = false;
  int block_size = 64;
  double int8_threshold = 6.0;
  std::string compute_dtype;  // empty: the default of the command
  std::string quant_storage = "uint8";
  std::vector<std::string> skip_modules;
  bool all_linears = false;
  bool any_given = false;  // after parsing: a scheme was asked for
};
void add_scheme_options(CLI::App& app, SchemeOptions& scheme);
QuantSpec quant_spec_of(const SchemeOptions& scheme);  // errors: kUsage

// "5GB", "60KB" (decimal), "4GiB" (binary), "123" -> bytes. Errors: kUsage, naming the option.
std::int64_t parse_bytes(std::string_view text, std::string_view option_name);
std::string human_bytes(std::int64_t bytes);  // "3.67 GB"
// "bfloat16" or "bf16", "float16" or "fp16", "float32" or "fp32". Errors: kUsage, naming the option.
DType parse_float_dtype(std::string_view text, std::string_view option_name);

// Rate and time left of a long job on stderr: a bar on a terminal, elsewhere a line at most every 5 % or 10
// s; nothing with --quiet. Thread-safe.
class Progress {
 public:
  Progress(const CommonOptions& common, const std::string& label, std::int64_t total_bytes);
  ~Progress();
  void advance(std::int64_t bytes);  // errors: kInterrupted after Ctrl-C

 private:
  void show(bool last);
  std::mutex mutex_;
  std::string label_;
  std::int64_t total_ = 0;
  std::int64_t done_ = 0;
  bool silent_ = false;
  bool terminal_ = false;
  double last_fraction_ = 0.0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_shown_;
};

// --- what main is made of

// What an exit code means, in a few words; all of them, in ascending order.
struct ExitMeaning {
  ExitCode code;
  std::string_view meaning;
};
std::span<const ExitMeaning> exit_meanings();

// Before a command declares its own: its name, how its help looks, the positional MODEL.
void begin_options(CLI::App& app, const std::string& program, const Subcommand& command,
                   CommonOptions& common);
// After that: the rest of what CommonOptions holds.
void add_common_options(CLI::App& app, CommonOptions& common);

std::string version_line();  // "qtool 0.1.0\n"
// What `qtool --help` prints.
std::string overview(std::span<const Subcommand> commands);
// Errors: kUsage, with the nearest name.
const Subcommand& find_command(std::span<const Subcommand> commands, const std::string& name);
// CLI11's complaint as one sentence, with the nearest option where one was mistyped.
Error usage_error(const CLI::App& app, const CLI::ParseError& complaint);

// spdlog to stderr (and --log-file), by -q, -v, --log-level, --color. Errors: kUsage, kIo.
void start_logging(const CommonOptions& common);

// One sentence on stderr, or with `json` {"schema":"qtool.error/1",...}; returns the exit code.
int report(const Error& error, const std::string& program, bool json);

// The formatter of --help: options in two columns, everything wrapped to the terminal.
std::shared_ptr<CLI::FormatterBase> help_formatter();
// What stands for an option's value: "FILE", "nf4|fp4", "INT"; empty for a flag.
std::string value_of(const CLI::Option& option);

// Names `option`'s environment twin: "--max-ram" <- $QTOOL_MAX_RAM.
CLI::Option* with_twin(CLI::Option* option);

template <typename T>
CLI::Option* option(CLI::App& app, const std::string& names, T& value, const std::string& help) {
  return with_twin(app.add_option(names, value, help));
}

}  // namespace qtool
