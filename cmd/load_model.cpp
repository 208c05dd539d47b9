#include "cmd/load_model.h"

#include <algorithm>
#include <chrono>
#include <sys/resource.h>

#include "cmd/model_plan.h"
#include "core/model/batch.h"
#include "formats/architectures.h"
#include "formats/tokenizers.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

constexpr int kReadAhead = 4;  // weights at once

bool scheme_asked_for(const SchemeOptions& scheme) {
  return scheme.any_given || !scheme.skip_modules.empty();
}

Plan plan_of(const Checkpoint& checkpoint, const ModelSpec& spec, const RunOptions& options,
             const QuantSpec& quant) {
  return plan_for(checkpoint, spec, quant, options.scheme, spec.dtype);
}

// What a device, or the machine for one that has no memory of its own, can still give.
std::int64_t available_on(const Backend& backend) {
  const std::optional<std::int64_t> free = backend.free_bytes();
  return free ? *free : available_memory();
}

}  // namespace

void add_run_options(CLI::App& app, RunOptions& options) {
  app.option_defaults()->group("Quantizing while loading, number types");
  add_scheme_options(app, options.scheme);
  option(app, "--kv-dtype", options.kv_dtype, "type of cached keys and values; auto: the compute type")
      ->type_name("auto|bfloat16|float16|float32")
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
  if (!tokenizer_) throw Error(*no_tokenizer_);
  return *tokenizer_;
}

std::string LoadedModel::scheme() const {
  return quant_.method == QuantMethod::kNone ? std::string(info(spec_.dtype).torch_name)
                                             : scheme_name(quant_);
}

MemoryNeed LoadedModel::need(const Capacity& capacity) const {
  return {plan_ ? plan_->bytes() : checkpoint_.bytes(),
          kv_cache_bytes(spec_, capacity.sequences, capacity.context_tokens, options_.kv_dtype),
          workspace_bytes(spec_, capacity)};
}

void LoadedModel::check_memory(const Backend& backend, const Capacity& capacity,
                               std::int64_t besides_bytes) const {
  const MemoryNeed need = this->need(capacity);
  const std::int64_t available = available_on(backend);
  if (need.total() <= available - besides_bytes) return;
  const bool on_gpu = backend.free_bytes().has_value();
  std::string advice = "a shorter --context";
  if (capacity.sequences > 1) advice = "a smaller --max-batch or " + advice;
  if (quant_.method != QuantMethod::kBlock4 && !stored_) advice += ", 4-bit weights (--bits 4)";
  if (on_gpu) advice += ", --device cpu";
  throw Error(ExitCode::kMemory,
              "this needs " + human_bytes(need.total()) + ": " + human_bytes(need.weights_bytes) +
                  " for weights, " + human_bytes(need.kv_cache_bytes) + " for a cache of " +
                  (capacity.sequences > 1 ? std::to_string(capacity.sequences) + " x " : std::string()) +
                  std::to_string(capacity.context_tokens) + " tokens, " + human_bytes(need.workspace_bytes) +
                  " to work in" +
                  (besides_bytes > 0 ? ", beside " + human_bytes(besides_bytes) + " for the reference" : "") +
                  "; but " + human_bytes(available) + " are free" + (on_gpu ? " on the GPU" : "") + "; try " +
                  advice,
              folder());
}

int LoadedModel::sequences_that_fit(const Backend& backend, std::int64_t context_tokens, int most) const {
  // Not everything a device takes is in the formulas: launches, libraries, the heap's own losses.
  constexpr std::int64_t kSpareShare = 10;
  const std::int64_t available = available_on(backend);
  const std::int64_t left = available - available / kSpareShare - need({}).weights_bytes;
  return std::max(1, qtool::sequences_that_fit(spec_, context_tokens, options_.kv_dtype, left, most));
}

void LoadedModel::load(Backend& backend, const Capacity& capacity, const CommonOptions& common) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t bytes = plan_ ? plan_->bytes() : checkpoint_.bytes();
  transformer_.reset();  // of an earlier capacity
  check_memory(backend, capacity);
  options_.capacity = capacity;
  const std::unique_ptr<Quantizer> quantizer = plan_ ? make_quantizer(common) : nullptr;
  // A GPU waits for what one thread reads; the CPU's weights would be twice in the memory they are made for.
  const bool on_gpu = backend.free_bytes().has_value();
  const auto source = make_weight_source(checkpoint_, plan_ ? &*plan_ : nullptr, quantizer.get(),
                                         on_gpu ? std::min(kReadAhead, thread_count(common)) : 1);
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
