// A model folder -> a Transformer ready to run, as generate and evaluate need it: stored in any form, or
// quantized while it is loaded.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cmd/cli.h"
#include "core/model/memory.h"
#include "core/model/plan.h"
#include "core/model/transformer.h"
#include "core/text/tokenizer.h"
#include "formats/checkpoint.h"
#include "formats/quant_config.h"

namespace qtool {

// Options of commands that run a model: the scheme options, --kv-dtype.
struct RunOptions {
  SchemeOptions scheme;
  std::string kv_dtype = "auto";
};
void add_run_options(CLI::App& app, RunOptions& options);

// What a run takes, known before anything is read: by the formulas of footprint.
struct MemoryNeed {
  std::int64_t weights_bytes = 0, kv_cache_bytes = 0, workspace_bytes = 0;
  std::int64_t total() const { return weights_bytes + kv_cache_bytes + workspace_bytes; }
};

class LoadedModel {
 public:
  // Reads config.json, tensor headers and the tokenizer; no weights. Errors: kNotFound, kMalformed,
  // kUnsupported; kUsage where a scheme is asked for and the checkpoint is already quantized.
  LoadedModel(const std::string& folder, const RunOptions& options);

  const std::string& folder() const { return checkpoint_.folder(); }
  const ModelSpec& spec() const { return spec_; }
  // Errors: why the folder's tokenizer cannot be had.
  const Tokenizer& tokenizer() const;
  bool has_tokenizer() const { return tokenizer_ != nullptr; }

  MemoryNeed need(const Capacity& capacity) const;
  // Says before minutes of loading that there is not enough memory, with figures: kMemory. `besides_bytes` is
  // what something else will take.
  void check_memory(const Backend& backend, const Capacity& capacity, std::int64_t besides_bytes = 0) const;
  // How many sequences, up to `most`, `backend` has memory for beside the weights; at least 1.
  int sequences_that_fit(const Backend& backend, std::int64_t context_tokens, int most) const;

  // Loads the weights onto `backend`, which outlives the model. A long load shows its progress. Errors: those
  // of check_memory() and of the checkpoint.
  void load(Backend& backend, const Capacity& capacity, const CommonOptions& common);
  Transformer& transformer() { return *transformer_; }
  double load_seconds() const { return load_s_; }
  std::string scheme() const;  // "nf4-dq", "int8", or the dtype of an unquantized model: "bfloat16"

 private:
  Checkpoint checkpoint_;
  ModelSpec spec_;
  std::optional<QuantConfig> stored_;  // of a quantized checkpoint
  QuantSpec quant_;                    // stored or asked for
  std::optional<Plan> plan_;           // when quantizing while loading
  Transformer::Options options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Error> no_tokenizer_;
  std::unique_ptr<Transformer> transformer_;
  double load_s_ = 0.0;
};

// Peak resident memory of this process.
std::int64_t peak_rss_bytes();

}  // namespace qtool
