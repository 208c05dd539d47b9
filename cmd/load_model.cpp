#include "cmd/load_model.h"

#include <chrono>
#include <sys/resource.h>

#include "formats/architectures.h"
#include "formats/tokenizers.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

bool scheme_asked_for(const SchemeOptions& scheme) {
  return scheme.any_given || !scheme.skip_modules.empty();
}

Plan plan_of(const Checkpoint& checkpoint, const ModelSpec& spec, const RunOptions& options,
             const QuantSpec& quant) {
  PlanOptions plan;
  plan.quant = quant;
  plan.rest_dtype = spec.dtype;
  plan.skip_modules = options.scheme.skip_modules;
  plan.tied_head = spec.tied_head;
  plan.head_module = module_name(architecture_of(checkpoint.config()), Role::kHead, -1);
  return make_plan(source_tensors(checkpoint), plan);
}

// Weights, cache and workspace must fit in the machine's free memory: said before minutes of loading, with
// figures.
void check_memory(const ModelSpec& spec, const Capacity& capacity, DType kv_dtype,
                  std::int64_t weights_bytes) {
  const std::int64_t available = available_memory();
  const std::int64_t cache = kv_cache_bytes(spec, capacity.sequences, capacity.context_tokens, kv_dtype);
  const std::int64_t workspace = workspace_bytes(spec, capacity);
  if (weights_bytes + cache + workspace <= available) return;
  throw Error(ExitCode::kMemory, "this needs " + human_bytes(weights_bytes) + " for weights, " +
                                     human_bytes(cache) + " for a cache of " +
                                     std::to_string(capacity.context_tokens) + " tokens and " +
                                     human_bytes(workspace) + " to work in, but " + human_bytes(available) +
                                     " are free; lower --context, or quantize the weights (--bits 4)");
}

}  // namespace

void add_run_options(CLI::App& app, RunOptions& options) {
  app.option_defaults()->group("Quantizing while loading, number types");
  add_scheme_options(app, options.scheme);
  option(app, "--kv-dtype", options.kv_dtype,
         "type of cached keys and values: auto (the compute type), bfloat16, ...")
      ->capture_default_str();
}

LoadedModel::LoadedModel(const std::string& folder, const RunOptions& options)
    : checkpoint_(Checkpoint::open(folder)),
      spec_(model_spec_of(checkpoint_)),
      stored_(quant_config_of(checkpoint_.config())) {
  const bool asked = scheme_asked_for(options.scheme);
  if (stored_) {
    quant_ = stored_->spec;
    if (asked)
      throw Error(ExitCode::kUsage,
                  folder + " is already quantized (" + scheme_name(quant_) +
                      "); leave out the quantization options, or name the checkpoint it was made from",
                  folder);
  } else if (asked) {
    quant_ = quant_spec_of(options.scheme);
    if (quant_.method != QuantMethod::kNone) plan_ = plan_of(checkpoint_, spec_, options, quant_);
  }
  // Products with 4-bit weights run in the type that bitsandbytes was told, everything else in the model's
  // own.
  options_.dense_dtype = spec_.dtype;
  options_.compute_dtype = quant_.method == QuantMethod::kBlock4 ? quant_.compute_dtype : spec_.dtype;
  if (!options.scheme.compute_dtype.empty())
    options_.compute_dtype = options_.dense_dtype =
        parse_float_dtype(options.scheme.compute_dtype, "--compute-dtype");
  options_.kv_dtype = options.kv_dtype == "auto" ? default_kv_dtype(options_.compute_dtype)
                                                 : parse_float_dtype(options.kv_dtype, "--kv-dtype");
  try {
    tokenizer_ = load_tokenizer(folder);
  } catch (const Error& error) {
    no_tokenizer_ = error;  // a model runs without one, on ids
  }
}

const Tokenizer& LoadedModel::tokenizer() const {
  if (!tokenizer_) throw *no_tokenizer_;
  return *tokenizer_;
}

std::string LoadedModel::scheme() const {
  return quant_.method == QuantMethod::kNone ? std::string(info(spec_.dtype).torch_name)
                                             : scheme_name(quant_);
}

void LoadedModel::load(Backend& backend, const Capacity& capacity, const CommonOptions& common) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t bytes = plan_ ? plan_->bytes() : checkpoint_.bytes();
  if (backend.name().starts_with("cpu")) check_memory(spec_, capacity, options_.kv_dtype, bytes);
  options_.capacity = capacity;
  const std::unique_ptr<Quantizer> quantizer = plan_ ? make_quantizer(common) : nullptr;
  const auto source = make_weight_source(checkpoint_, plan_ ? &*plan_ : nullptr, quantizer.get());
  Progress progress(common, plan_ ? "quantizing" : "loading", bytes);
  transformer_ = std::make_unique<Transformer>(spec_, backend, *source, options_,
                                               [&](std::int64_t loaded) { progress.advance(loaded); });
  load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace qtool
