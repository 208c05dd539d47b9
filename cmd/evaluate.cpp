// qtool evaluate: perplexity on a text, and distance from a reference model.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <spdlog/spdlog.h>

#include "cmd/cli.h"
#include "cmd/load_model.h"
#include "core/model/logprobs.h"
#include "formats/file.h"

namespace qtool {
namespace {

constexpr std::int64_t kMaxTextBytes = std::int64_t{1} << 30;
constexpr std::int64_t kMaxWindow = std::int64_t{1} << 20;
constexpr std::int64_t kRowsAtOnce = 64;  // of logits

struct Options {
  std::string text;
  std::int64_t window = 512;
  std::string reference;
  std::optional<double> max_perplexity, max_kl;
  RunOptions run;
};

// What is summed over all predicted tokens.
struct Totals {
  std::int64_t tokens = 0;
  double nll = 0.0;  // sum of -log p(token)
  std::vector<float> kl;
  std::int64_t top1_equal = 0;

  double mean_nll() const { return nll / static_cast<double>(tokens); }
  double perplexity() const { return std::exp(mean_nll()); }
  double kl_mean() const {
    double sum = 0.0;
    for (const float value : kl) sum += static_cast<double>(value);
    return sum / static_cast<double>(tokens);
  }
  // The smallest value that at least 99 % of the tokens do not exceed.
  double kl_p99() const {
    std::vector<float> sorted = kl;
    const auto rank = static_cast<std::ptrdiff_t>(std::ceil(0.99 * static_cast<double>(tokens))) - 1;
    std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
    return static_cast<double>(sorted[static_cast<std::size_t>(rank)]);
  }
  double top1_agreement() const { return static_cast<double>(top1_equal) / static_cast<double>(tokens); }
};

// Runs one window through the model, and the reference beside it, and adds what they say of each token after
// the first. Logits live only as long as it takes to compare them.
void add_window(std::span<const std::int32_t> ids, Transformer& model, Transformer* reference,
                Totals& totals) {
  const auto length = static_cast<std::int64_t>(ids.size());
  const auto vocab = static_cast<std::size_t>(model.spec().vocab_size);
  const std::int64_t chunk = model.capacity().chunk_tokens;
  std::vector<std::int64_t> rows;
  for (std::int64_t begin = 0; begin < length; begin += chunk) {
    const Segment segment{0, begin, std::min(chunk, length - begin)};
    const auto piece = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(segment.tokens));
    model.forward({&segment, 1}, piece, length);
    if (reference != nullptr) reference->forward({&segment, 1}, piece, length);
    const std::int64_t predicting =
        std::min(segment.tokens, length - 1 - begin);  // the last token predicts nothing
    for (std::int64_t row = 0; row < predicting;) {
      rows.clear();
      while (row < predicting && static_cast<std::int64_t>(rows.size()) < kRowsAtOnce) rows.push_back(row++);
      const std::span<const float> found = model.logits(rows);
      const std::span<const float> expected =
          reference != nullptr ? reference->logits(rows) : std::span<const float>();
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto logits = found.subspan(i * vocab, vocab);
        const std::int32_t best = likeliest(logits);
        const auto target = static_cast<std::size_t>(ids[static_cast<std::size_t>(begin + rows[i] + 1)]);
        totals.nll += log_sum_exp(logits) - static_cast<double>(logits[target]);
        ++totals.tokens;
        if (reference == nullptr) continue;
        const auto wanted = expected.subspan(i * vocab, vocab);
        totals.kl.push_back(static_cast<float>(kl_divergence(wanted, logits)));
        totals.top1_equal += best == likeliest(wanted) ? 1 : 0;
      }
    }
  }
}

Capacity capacity_for(std::int64_t window) {
  Capacity capacity = capacity_of(1, window);
  capacity.logit_rows = std::min(window, kRowsAtOnce);
  return capacity;
}

void check(const Options& options) {
  const auto usage = [](const std::string& sentence) { throw Error(ExitCode::kUsage, sentence); };
  if (options.text.empty()) usage("--text is needed: the file to evaluate on");
  if (options.window < 2 || options.window > kMaxWindow)
    usage("--window must lie between 2 and " + std::to_string(kMaxWindow));
  if (options.max_kl && options.reference.empty()) usage("--max-kl needs --reference");
  if ((options.max_kl && std::isnan(*options.max_kl)) ||
      (options.max_perplexity && std::isnan(*options.max_perplexity)))
    usage("a threshold must be a number");
}

// The reference runs as it is stored, in the same compute type if one was asked for.
LoadedModel open_reference(const CommonOptions& common, const Options& options, const LoadedModel& model) {
  CommonOptions place = common;
  place.model = options.reference;
  RunOptions run;
  run.scheme.compute_dtype = options.run.scheme.compute_dtype;
  run.kv_dtype = options.run.kv_dtype;
  LoadedModel reference(model_folder(place), run);
  if (reference.spec().vocab_size != model.spec().vocab_size)
    throw Error(ExitCode::kUsage, "the reference has a vocabulary of " +
                                      std::to_string(reference.spec().vocab_size) + " and the model one of " +
                                      std::to_string(model.spec().vocab_size) +
                                      "; only models of one tokenizer can be compared");
  return reference;
}

// Windows of BOS (if the tokenizer has one) and window - 1 tokens; an incomplete last one is left out.
std::vector<std::vector<std::int32_t>> windows_of(const std::string& text, const Tokenizer& tokenizer,
                                                  std::int64_t window) {
  const std::vector<std::int32_t> ids = tokenizer.encode(text, false);
  const auto size = static_cast<std::size_t>(window - 1);
  std::vector<std::vector<std::int32_t>> windows;
  for (std::size_t begin = 0; begin + size <= ids.size(); begin += size) {
    std::vector<std::int32_t>& ids_of_window = windows.emplace_back();
    if (const auto bos = tokenizer.bos_id()) ids_of_window.push_back(*bos);
    ids_of_window.insert(ids_of_window.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                         ids.begin() + static_cast<std::ptrdiff_t>(begin + size));
  }
  if (windows.empty() || windows[0].size() < 2)
    throw Error(ExitCode::kUsage, "the text has " + std::to_string(ids.size()) +
                                      " tokens, less than one window of " + std::to_string(window) +
                                      "; give a longer text or a smaller --window");
  return windows;
}

Json report_of(const Totals& totals, bool compared, double seconds) {
  return {{"schema", "qtool.evaluate/1"},
          {"tokens", totals.tokens},
          {"nll", totals.mean_nll()},
          {"perplexity", totals.perplexity()},
          {"kl_mean", compared ? Json(totals.kl_mean()) : Json()},
          {"kl_p99", compared ? Json(totals.kl_p99()) : Json()},
          {"top1_agreement", compared ? Json(totals.top1_agreement()) : Json()},
          {"seconds", seconds}};
}

std::string text_of(const Totals& totals, bool compared) {
  std::string text = fmt::format("perplexity      {:.4f}  ({} tokens, mean NLL {:.6f})\n",
                                 totals.perplexity(), totals.tokens, totals.mean_nll());
  if (compared)
    text += fmt::format("KL divergence   {:.6f} mean, {:.6f} at 99 %\ntop-1 agreement {:.2f} %\n",
                        totals.kl_mean(), totals.kl_p99(), 100.0 * totals.top1_agreement());
  return text;
}

int run(const CommonOptions& common, const Options& options) {
  check(options);
  LoadedModel model(model_folder(common), options.run);
  std::optional<LoadedModel> reference;
  if (!options.reference.empty()) reference.emplace(open_reference(common, options, model));
  if (options.window > model.spec().max_positions)
    spdlog::warn("--window {} is more than the {} positions this model was made for", options.window,
                 model.spec().max_positions);
  const std::string text = read_input(options.text, kMaxTextBytes);
  const auto windows = windows_of(text, model.tokenizer(), options.window);

  const std::unique_ptr<Backend> backend = make_backend(common);
  const Capacity capacity = capacity_for(options.window);
  if (reference) model.check_memory(*backend, capacity, reference->need(capacity).total());
  model.load(*backend, capacity, common);
  if (reference) reference->load(*backend, capacity, common);

  const auto start = std::chrono::steady_clock::now();
  const auto bytes_per_window = static_cast<std::int64_t>(text.size() / windows.size());
  Totals totals;
  {
    Progress progress(common, "evaluating", static_cast<std::int64_t>(text.size()));
    for (const auto& ids : windows) {
      add_window(ids, model.transformer(), reference ? &reference->transformer() : nullptr, totals);
      progress.advance(bytes_per_window);
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const bool compared = reference.has_value();
  if (common.json)
    print_json(report_of(totals, compared, seconds));
  else
    print_out(text_of(totals, compared));
  spdlog::info("{} ({}): {} tokens in {:.1f} s, {:.0f} tok/s", backend->name(), model.scheme(), totals.tokens,
               seconds, static_cast<double>(totals.tokens) / seconds);

  bool passed = true;
  const auto hold = [&](const char* what, double value, const std::optional<double>& limit) {
    if (!limit || value <= *limit) return;
    spdlog::error("{} {:.6g} is over the limit of {:.6g}", what, value, *limit);
    passed = false;
  };
  hold("perplexity", totals.perplexity(), options.max_perplexity);
  if (compared) hold("mean KL divergence", totals.kl_mean(), options.max_kl);
  return static_cast<int>(passed ? ExitCode::kOk : ExitCode::kVerification);
}

}  // namespace

std::function<int()> declare_evaluate(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<Options>();
  option(app, "--text", options->text, "the text, UTF-8")->type_name("FILE");
  option(app, "--window", options->window, "tokens seen at once, BOS included")->capture_default_str();
  option(app, "--reference", options->reference, "model to compare with: KL divergence and top-1 agreement")
      ->type_name("MODEL");
  option(app, "--max-perplexity", options->max_perplexity, "exit 9 above it");
  option(app, "--max-kl", options->max_kl, "exit 9 when the mean KL divergence is above it");
  add_run_options(app, options->run);
  add_help(
      app, {},
      {"qtool evaluate ./model --text heldout.txt",
       "qtool evaluate ./model --bits 4 --double-quant --text heldout.txt --reference ./model --max-kl 0.1"});
  return [&common, options] { return run(common, *options); };
}

}  // namespace qtool
