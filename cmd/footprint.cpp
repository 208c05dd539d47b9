// qtool footprint: how much memory a model takes, before anything is loaded or written.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cmd/cli.h"
#include "cmd/model_plan.h"
#include "cmd/table.h"
#include "core/model/memory.h"
#include "core/model/plan.h"
#include "formats/architectures.h"
#include "formats/quant_config.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

struct FootprintOptions {
  SchemeOptions scheme;
  int batch = 1;
  std::int64_t context = 0;
  std::string kv_dtype = "auto";
  std::string budget;
};

struct Row {
  std::string scheme;
  DType kv_dtype = DType::kBF16;
  std::int64_t parameters = 0, weights_bytes = 0, hf_memory_footprint = 0;
  std::int64_t kv_cache_bytes = 0, workspace_bytes = 0;
  std::int64_t largest_context = 0;

  std::int64_t total() const { return weights_bytes + kv_cache_bytes + workspace_bytes; }
};

// What is asked about, resolved.
struct Question {
  const Checkpoint& checkpoint;
  ModelSpec spec;
  std::optional<QuantConfig> stored;  // of a checkpoint that is quantized already
  int batch = 1;
  std::int64_t context = 0;
  std::optional<DType> compute_dtype = {}, kv_dtype = {};  // nothing: what `generate` would take
  std::int64_t budget = 0;
};

// The longest context, up to what the model was made for, that fits beside the weights; 0 if none does.
std::int64_t largest_context(const Question& question, const Row& row) {
  const auto total = [&](std::int64_t context) {
    return row.weights_bytes + kv_cache_bytes(question.spec, question.batch, context, row.kv_dtype) +
           workspace_bytes(question.spec, capacity_of(question.batch, context));
  };
  std::int64_t fits = 0;
  std::int64_t too_long = question.spec.max_positions + 1;
  while (too_long - fits > 1) {
    const std::int64_t middle = fits + (too_long - fits) / 2;
    (total(middle) <= question.budget ? fits : too_long) = middle;
  }
  return fits;
}

Row row_of(const Question& question, const Plan& plan) {
  const ModelSpec& spec = question.spec;
  Row row;
  row.scheme = scheme_name(plan.quant);
  // As generate chooses: products with 4-bit weights in their compute type, everything else in the model's
  // own.
  const DType compute = plan.quant.method == QuantMethod::kBlock4 ? plan.quant.compute_dtype : spec.dtype;
  row.kv_dtype = question.kv_dtype.value_or(default_kv_dtype(question.compute_dtype.value_or(compute)));
  row.parameters = plan.parameters();
  row.weights_bytes = plan.bytes();
  row.hf_memory_footprint = plan.hf_memory_footprint(transformers_buffer_bytes(spec));
  row.kv_cache_bytes = kv_cache_bytes(spec, question.batch, question.context, row.kv_dtype);
  row.workspace_bytes = workspace_bytes(spec, capacity_of(question.batch, question.context));
  row.largest_context = largest_context(question, row);
  return row;
}

Plan plan_of(const Question& question, const SchemeOptions& scheme) {
  return plan_for(question.checkpoint, question.spec, quant_spec_of(scheme), scheme, question.spec.dtype);
}

bool same_form(const QuantSpec& a, const QuantSpec& b) {
  if (a.method != b.method) return false;
  return a.method != QuantMethod::kBlock4 ||
         (a.code == b.code && a.nested == b.nested && a.block_size == b.block_size && a.storage == b.storage);
}

std::vector<Row> rows_of(const Question& question, const SchemeOptions& scheme) {
  const QuantSpec named = quant_spec_of(scheme);
  const bool asked = scheme.any_given || !scheme.skip_modules.empty();
  if (question.stored && (!asked || (same_form(named, question.stored->spec) && scheme.skip_modules.empty())))
    return {row_of(question, stored_plan(question.checkpoint))};  // its bytes are known, not computed
  if (scheme.any_given) return {row_of(question, plan_of(question, scheme))};
  std::vector<Row> rows;
  const auto add = [&](int bits, const char* type, bool nested) {
    SchemeOptions one = scheme;
    one.bits = bits;
    one.quant_type = type;
    one.double_quant = nested;
    rows.push_back(row_of(question, plan_of(question, one)));
  };
  add(16, "nf4", false);
  for (const char* type : {"nf4", "fp4"})
    for (const bool nested : {false, true}) add(4, type, nested);
  add(8, "nf4", false);
  return rows;
}

Json json_of(const Row& row, const Question& question) {
  return {{"scheme", row.scheme},
          {"parameters", row.parameters},
          {"weights_bytes", row.weights_bytes},
          {"hf_memory_footprint", row.hf_memory_footprint},
          {"kv_dtype", info(row.kv_dtype).torch_name},
          {"kv_cache_bytes", row.kv_cache_bytes},
          {"workspace_bytes", row.workspace_bytes},
          {"total_bytes", row.total()},
          {"largest_context_that_fits", row.largest_context},
          {"fits", row.total() <= question.budget}};
}

std::string text_of(const std::vector<Row>& rows, const Question& question, bool budget_given) {
  Table facts({{""}, {""}});
  facts.add({"model", question.spec.architecture + ", " + grouped(rows.front().parameters) + " parameters, " +
                          std::string(info(question.spec.dtype).torch_name)});
  const bool one_kv_dtype = std::all_of(
      rows.begin(), rows.end(), [&](const Row& row) { return row.kv_dtype == rows.front().kv_dtype; });
  facts.add({"run",
             std::to_string(question.batch) + (question.batch == 1 ? " sequence of " : " sequences of ") +
                 grouped(question.context) + " tokens, keys and values in " +
                 (one_kv_dtype ? std::string(info(rows.front().kv_dtype).torch_name) : "the compute dtype")});
  facts.add(
      {"budget", human_bytes(question.budget) + (budget_given ? "" : " (free memory of this machine)")});

  Table table({{"scheme"},
               {"bits/param", Align::kRight},
               {"weights", Align::kRight},
               {"KV cache", Align::kRight},
               {"workspace", Align::kRight},
               {"total", Align::kRight},
               {"fits", Align::kRight},
               {"longest context", Align::kRight},
               {"transformers says", Align::kRight}});
  for (const Row& row : rows) {
    char bits[16];
    std::snprintf(bits, sizeof bits, "%.3f",
                  8.0 * static_cast<double>(row.weights_bytes) / static_cast<double>(row.parameters));
    table.add({row.scheme, bits, human_bytes(row.weights_bytes), human_bytes(row.kv_cache_bytes),
               human_bytes(row.workspace_bytes), human_bytes(row.total()),
               row.total() <= question.budget ? "yes" : "no", grouped(row.largest_context),
               human_bytes(row.hf_memory_footprint)});
  }
  return escaped(question.checkpoint.folder()) + "\n" + facts.text(2) + "\n" + table.text(2);
}

Question question_of(const Checkpoint& checkpoint, const FootprintOptions& options) {
  Question question{checkpoint, model_spec_of(checkpoint), quant_config_of(checkpoint.config())};
  question.batch = options.batch;
  question.context = options.context > 0 ? options.context : default_context_tokens(question.spec, 0);
  check_context(question.context, question.spec);
  if (!options.scheme.compute_dtype.empty())
    question.compute_dtype = parse_float_dtype(options.scheme.compute_dtype, "--compute-dtype");
  if (options.kv_dtype != "auto") question.kv_dtype = parse_float_dtype(options.kv_dtype, "--kv-dtype");
  question.budget = options.budget.empty() ? available_memory() : parse_bytes(options.budget, "--budget");
  return question;
}

int footprint(const CommonOptions& common, const FootprintOptions& options) {
  const Checkpoint checkpoint = open_headers(common);
  const Question question = question_of(checkpoint, options);
  const std::vector<Row> rows = rows_of(question, options.scheme);
  const bool budget_given = !options.budget.empty();
  if (common.json) {
    Json schemes = Json::array();
    for (const Row& row : rows) schemes.push_back(json_of(row, question));
    print_json({{"schema", "qtool.footprint/1"},
                {"folder", escaped(checkpoint.folder())},
                {"batch", question.batch},
                {"context", question.context},
                {"budget_bytes", question.budget},
                {"budget_given", budget_given},
                {"schemes", schemes}});
  } else {
    print_out(text_of(rows, question, budget_given));
  }
  const auto smallest = std::min_element(rows.begin(), rows.end(),
                                         [](const Row& a, const Row& b) { return a.total() < b.total(); });
  if (budget_given && smallest->total() > question.budget)
    throw Error(ExitCode::kMemory, smallest->scheme + " needs " + human_bytes(smallest->total()) + " (" +
                                       std::to_string(smallest->total()) + " bytes), over --budget " +
                                       escaped(options.budget) + "; try a shorter --context" +
                                       (rows.size() > 1 ? "" : " or a smaller scheme"));
  return 0;
}

}  // namespace

std::function<int()> declare_footprint(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<FootprintOptions>();
  add_scheme_options(app, options->scheme);
  option(app, "--batch", options->batch, "sequences at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  option(app, "--context", options->context,
         "tokens of each; 0: 4096, or what the model was made for if that is less")
      ->check(CLI::Range(std::int64_t{0}, kMaxContextTokens))
      ->capture_default_str();
  option(app, "--kv-dtype", options->kv_dtype, "of keys and values; auto: the compute dtype")
      ->type_name("auto|bfloat16|float16|float32")
      ->capture_default_str();
  option(app, "--budget", options->budget,
         "such as 8GiB: exit 6 if the scheme does not fit, or none does; left out: free memory, no exit")
      ->type_name("SIZE");
  add_help(
      app,
      {"Without a scheme: a table of all. Weights are all that is stored, statistics included; of nested "
       "schemes they may be off by a few bytes a matrix, because the length of one printed number is known "
       "only after quantizing. 'transformers says' is its get_memory_footprint(), which leaves statistics "
       "out."},
      {"qtool footprint org/name", "qtool footprint ./model --batch 8 --context 8192",
       "qtool footprint ./model --bits 4 --double-quant --budget 8GiB --json"});
  return [&common, options] { return footprint(common, *options); };
}

}  // namespace qtool
