// What `quantize` tells about its work: JSON, Markdown, a picture, and the table of --dry-run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/plan.h"
#include "formats/json.h"
#include "formats/quantize_checkpoint.h"

namespace qtool {

struct QuantizeReport {
  std::string input, output;  // folders
  Plan plan;
  std::int64_t bytes_in = 0;        // of the input's tensors
  std::int64_t bytes_out = 0;       // of the output's
  bool dry_run = false;             // nothing of what follows was done
  std::vector<TensorError> errors;  // of quantized tensors
  bool verified = false;            // errors are over all values, not samples
  std::vector<std::string> copied;  // files copied along
  std::size_t files = 0;            // safetensors files written
  double seconds = 0.0;
  std::int64_t peak_rss_bytes = 0;

  double bits_per_weight() const;
  double gb_per_s() const;  // of input
};

// "nf4-dq", "int8", or the dtype of a checkpoint that is not quantized: "bfloat16".
std::string method_name(const Plan& plan);

// The tensors that lost most, worst first.
std::vector<TensorError> worst_of(std::vector<TensorError> errors, std::size_t count);

// The document of --json; with `tensors` also every tensor: --report FILE.json.
Json to_json(const QuantizeReport& report, bool tensors);

std::string to_markdown(const QuantizeReport& report);  // --report FILE.md
std::string to_svg(const QuantizeReport& report);       // --report FILE.svg

// Lines for people: tensors whose names differ only in numbers are one line.
std::string plan_table(const Plan& plan);

// "13 kept: output head 1, not a linear layer 12"
std::string kept_summary(const Plan& plan);

}  // namespace qtool
