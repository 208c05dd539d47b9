// qtool quantize: a checkpoint -> the checkpoint that bitsandbytes would have written.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include "cmd/cli.h"
#include "cmd/model_plan.h"
#include "cmd/quantize_report.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "formats/architectures.h"
#include "formats/atomic_folder.h"
#include "formats/checkpoint.h"
#include "formats/model_files.h"
#include "formats/quant_config.h"
#include "formats/quantize_checkpoint.h"
#include "formats/resume.h"
#include "formats/system_error.h"
#include "formats/verify_checkpoint.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

struct QuantizeOptions {
  SchemeOptions scheme;
  std::string output;
  std::string dtype = "auto";
  std::string max_shard_size = "5GB";
  std::string max_ram = "4GB";
  std::string report;
  bool dry_run = false;
  bool resume = false;
  bool force = false;
  bool verify = false;
  bool requantize = false;
};

constexpr std::size_t kProblemsShown = 20;

std::string to_json_text(const QuantizeReport& report) {
  return to_json(report, true).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

constexpr struct {
  std::string_view ending;  // of the file that --report names
  std::string (*text)(const QuantizeReport& report);
} kReports[] = {{".json", to_json_text}, {".md", to_markdown}, {".svg", to_svg}};

void check_report_name(const std::string& path) {
  if (path.empty() || std::any_of(std::begin(kReports), std::end(kReports),
                                  [&](const auto& row) { return path.ends_with(row.ending); }))
    return;
  throw Error(ExitCode::kUsage, "--report must name a .json, .md or .svg file, is '" + escaped(path) + "'");
}

Plan plan_of(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const QuantSpec quant = quant_spec_of(options.scheme);
  const std::optional<QuantConfig> already = quant_config_of(checkpoint.config());
  if (already && quant.method != QuantMethod::kNone && !options.requantize) {
    throw Error(
        ExitCode::kUsage,
        "'" + escaped(checkpoint.folder()) + "' is quantized already (" + scheme_name(already->spec) +
            "): quantizing what it dequantizes to adds a second error; give --requantize to do so all the "
            "same, or --bits 16 to dequantize",
        checkpoint.folder());
  }
  const ModelSpec model = model_spec_of(checkpoint);
  const DType rest = options.dtype == "auto" ? model.dtype : parse_float_dtype(options.dtype, "--dtype");
  return plan_for(checkpoint, model, quant, options.scheme, rest);
}

// "demo-nf4-dq" in the working directory.
std::string default_output(const CommonOptions& common, const std::string& folder, const Plan& plan) {
  std::string name;
  if (common.model.empty() || exists(common.model)) {
    name = fs::weakly_canonical(folder).filename().string();
  } else {  // a Hub name: its folder in the cache is called by a commit
    name = common.model.substr(common.model.rfind('/') + 1);
    name = name.substr(0, name.find('@'));
  }
  return "./" + name + "-" + method_name(plan);
}

// Nobody quantizes over what is being read, and --force replaces models, not other people's folders.
void check_output(const std::string& input, const std::string& output, bool force) {
  std::error_code failure;
  const fs::path in = fs::weakly_canonical(input, failure), out = fs::weakly_canonical(output, failure);
  if (failure) throw system_failure("cannot follow", output, failure);
  const auto [end, rest] = std::mismatch(out.begin(), out.end(), in.begin(), in.end());
  if (end == out.end()) {
    throw Error(ExitCode::kUsage,
                "the output '" + escaped(output) + "' is or holds the input: name another folder with -o",
                output);
  }
  if (force && is_directory(output) && !fs::is_empty(output, failure) && !exists(output + "/config.json")) {
    throw Error(ExitCode::kUsage,
                "'" + escaped(output) + "' holds no model (no config.json), so --force does not replace it",
                output);
  }
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

// `consequence` of a failure, for its sentence.
void verify(const Checkpoint& source, const std::string& folder, StreamOptions stream,
            const CommonOptions& common, QuantizeReport& report, const std::string& consequence) {
  Progress progress(common, "verifying", source.bytes());
  stream.progress = [&](std::int64_t bytes) { progress.advance(bytes); };
  const Verification result = verify_checkpoint(source, report.plan, folder, stream);
  for (std::size_t i = 0; i < std::min(result.problems.size(), kProblemsShown); ++i)
    spdlog::error("{}", result.problems[i]);
  if (!result.problems.empty()) {
    throw Error(ExitCode::kVerification, "verification found " + std::to_string(result.problems.size()) +
                                             " problems" + consequence +
                                             "; the first: " + result.problems.front());
  }
  report.errors = result.errors;
  report.verified = true;
}

void write_report(const QuantizeReport& report, const std::string& path) {
  for (const auto& row : kReports) {
    if (!path.ends_with(row.ending)) continue;
    const std::string text = row.text(report);
    OutputFile(path).write_at(0, std::as_bytes(std::span(text)));
  }
}

StreamOptions stream_options(const QuantizeOptions& options, const CommonOptions& common) {
  StreamOptions stream;
  stream.threads = thread_count(common);
  stream.max_ram_bytes = parse_bytes(options.max_ram, "--max-ram");
  stream.max_shard_bytes = parse_bytes(options.max_shard_size, "--max-shard-size");
  stream.made_by = QTOOL_VERSION;
  return stream;
}

// The weights, or those that an interrupted run has not finished.
void write_weights(const Checkpoint& source, StreamOptions stream, const CommonOptions& common,
                   AtomicFolder& folder, QuantizeReport& report) {
  const std::unique_ptr<Quantizer> quantizer = make_quantizer(common);
  std::optional<Progress> progress;
  progress.emplace(common, "quantizing", source.bytes());
  stream.progress = [&](std::int64_t bytes) { progress->advance(bytes); };
  stream.resumed = [&](const Resumption& found) {
    if (found.refused.empty())
      spdlog::info("going on: {} finished files are kept, {} of {} need not be read again", found.files,
                   human_bytes(found.source_bytes), human_bytes(source.bytes()));
    else
      spdlog::warn("starting anew: what lies there was begun {}", found.refused);
    progress.emplace(common, "quantizing", source.bytes() - found.source_bytes);
  };
  QuantizedCheckpoint written = quantize_checkpoint(source, report.plan, *quantizer, folder, stream);
  report.errors = std::move(written.errors);
  report.bytes_out = written.layout.tensor_bytes();
  report.files = written.layout.shards.size();
  if (written.rebuilt_files > 0) spdlog::debug("{} files were put together again", written.rebuilt_files);
}

void write_folder(const Checkpoint& source, const QuantizeOptions& options, const CommonOptions& common,
                  QuantizeReport& report) {
  const StreamOptions stream = stream_options(options, common);
  AtomicFolder folder(report.output, options.force,
                      options.resume ? Leftovers::kKept : Leftovers::kDiscarded);
  if (folder.discarded())
    spdlog::info("what an interrupted run had begun is discarded{}",
                 options.resume ? "" : "; with --resume it is gone on with");
  try {
    write_weights(source, stream, common, folder, report);
    folder.write("config.json", to_python_json(output_config(source.config(), report.plan)));
    report.copied = copy_model_files(source.folder(), folder);
    if (options.verify)
      verify(source, folder.path_of("."), stream, common, report, ", so nothing was kept of the output");
    folder.commit();
  } catch (const Error& error) {
    if (!options.resume || error.code() != ExitCode::kInterrupted) throw;
    folder.suspend();
    throw Error(error.code(), error.what() + std::string("; --resume goes on with what is finished"));
  }
}

// With --resume, work that is done is a success, too: a loop around the command must end.
bool finished_before(const Checkpoint& source, const QuantizeOptions& options, const CommonOptions& common,
                     QuantizeReport& report) {
  if (!options.resume || options.force || !is_directory(report.output)) return false;
  const StreamOptions stream = stream_options(options, common);
  if (!is_finished(report.output, source, report.plan, stream.max_shard_bytes)) return false;
  remove_leftovers(report.output);
  const Checkpoint output = Checkpoint::open(report.output);
  report.bytes_out = output.bytes();
  report.files = output.files().size();
  spdlog::info("'{}' is finished already", escaped(report.output));
  if (options.verify) verify(source, report.output, stream, common, report, "");
  return true;
}

void convert_checkpoint(const Checkpoint& source, const QuantizeOptions& options, const CommonOptions& common,
                        QuantizeReport& report) {
  const auto start = std::chrono::steady_clock::now();
  check_output(source.folder(), report.output, options.force);
  if (!finished_before(source, options, common, report)) write_folder(source, options, common, report);
  ignore_interrupts();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.peak_rss_bytes = peak_rss_bytes();
}

// All but what is printed: a checkpoint's JSON takes memory even to be freed, which must not fail after the
// result is out.
QuantizeReport quantized(const QuantizeOptions& options, const CommonOptions& common) {
  check_report_name(options.report);
  const Checkpoint source = Checkpoint::open(model_folder(common));
  QuantizeReport report;
  report.plan = plan_of(source, options);
  report.input = source.folder();
  report.output =
      options.output.empty() ? default_output(common, source.folder(), report.plan) : options.output;
  report.bytes_in = source.bytes();
  report.bytes_out = report.plan.bytes();
  report.dry_run = options.dry_run;

  if (!options.dry_run) convert_checkpoint(source, options, common, report);
  if (!options.report.empty()) write_report(report, options.report);
  if (report.plan.quant.method != QuantMethod::kNone &&
      std::none_of(report.plan.entries.begin(), report.plan.entries.end(),
                   [](const PlanEntry& e) { return e.quantized; }))
    spdlog::warn("no tensor was quantized: {}", kept_summary(report.plan));
  if (language_config(source.config()) != source.config())
    spdlog::warn("of this multimodal model only the language model is written: the output takes text alone");
  if (const std::int64_t left = report.plan.unreplaced_bytes(); left > 0)
    spdlog::warn(
        "{} of weights stay {}, because transformers 5 cannot load them quantized (experts in one tensor, "
        "layers of classes of their own); --all-linears quantizes them, too: qtool and transformers 4 load "
        "that",
        human_bytes(left), info(report.plan.rest_dtype).torch_name);
  return report;
}

int quantize_command(const QuantizeOptions& options, const CommonOptions& common) {
  const QuantizeReport report = quantized(options, common);
  if (common.json) {
    print_json(to_json(report, false));
  } else if (options.dry_run) {
    print_out(plan_table(report.plan));
  } else {
    spdlog::info("{}: {} to {}, {:.3f} bits a weight; {}", method_name(report.plan),
                 human_bytes(report.bytes_in), human_bytes(report.bytes_out), report.bits_per_weight(),
                 kept_summary(report.plan));
    spdlog::info("{:.1f} s, {:.2f} GB/s, peak memory {}", report.seconds, report.gb_per_s(),
                 human_bytes(report.peak_rss_bytes));
    print_out(report.output + "\n");
  }
  return 0;
}

}  // namespace

std::function<int()> declare_quantize(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<QuantizeOptions>();
  option(app, "-o,--output", options->output, "output folder; left out: ./<name>-<scheme>")->type_name("DIR");
  add_scheme_options(app, options->scheme);
  option(app, "--dtype", options->dtype,
         "dtype of what stays unquantized, and of weights before they are quantized; auto: the model's")
      ->type_name("auto|bfloat16|float16|float32")
      ->capture_default_str();
  option(app, "--max-shard-size", options->max_shard_size, "largest safetensors file")
      ->type_name("SIZE")
      ->capture_default_str();
  option(app, "--max-ram", options->max_ram, "memory that the program may use at most")
      ->type_name("SIZE")
      ->capture_default_str();
  flag(app, "--dry-run", options->dry_run, "say what would become of every tensor; write nothing");
  flag(
      app, "--resume", options->resume,
      "go on where a run of the same command was interrupted; without one, or when it is finished, no error");
  flag(app, "--force", options->force, "replace an existing output folder");
  flag(app, "--verify", options->verify, "read the output back and compare it with the input");
  flag(app, "--requantize", options->requantize, "accept an input that is quantized already");
  option(app, "--report", options->report,
         "write all that is known of the conversion to a .json, .md or .svg file")
      ->type_name("FILE");
  add_help(
      app,
      {"Prints the output folder, which appears complete or not at all. transformers and bitsandbytes "
       "load it "
       "unchanged; its tensors equal those that bitsandbytes writes on CUDA, bit for bit.",
       "A run that is killed leaves hidden files beside the output. The next run of the same command "
       "removes them, "
       "or with --resume keeps the safetensors files that were finished and gives the same bytes; when the "
       "input, "
       "an option or qtool's version has changed it starts anew. Interrupted (Ctrl-C), only a run with "
       "--resume "
       "keeps them."},
      {"qtool quantize ./llama --bits 4 --quant-type nf4 --double-quant -o ./llama-nf4",
       "qtool quantize org/name --bits 8 --verify --report int8.svg",
       "qtool quantize ./llama --max-shard-size 2GB --resume",
       "qtool quantize ./llama --skip-modules lm_head,model.layers.0.mlp.down_proj --dry-run",
       "qtool quantize ./llama-nf4 --bits 16 -o ./llama-back"});
  return [options, &common] { return quantize_command(*options, common); };
}

}  // namespace qtool
