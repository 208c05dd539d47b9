// Weights <-> named tensors in bitsandbytes' form, and a checkpoint as the source of a model's weights.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/plan.h"
#include "core/model/spec.h"
#include "core/model/weight_source.h"
#include "core/quant/quantizer.h"
#include "core/quant/weight.h"
#include "formats/checkpoint.h"

namespace qtool {

// A named piece of a weight with its bytes, ready to be written.
struct NamedTensor {
  std::string name;
  TensorView view;
};

// The pieces of module `module`'s weight; names, dtypes, shapes and order are those of parts_of().
std::vector<NamedTensor> named_parts(const std::string& module, const Weight& weight);
std::vector<NamedTensor> named_parts(const std::string& module,
                                     Weight&& weight) = delete;  // would outlive its bytes

// Reads module `module`'s weight in whatever form the file holds it: `<module>.weight` alone, with SCB, or
// with 4-bit statistics (any storage dtype, any order, across shards). `threshold` is quantization_config's
// llm_int8_threshold. Errors: kMalformed for missing or contradictory pieces, naming them; kUnsupported for
// forms bitsandbytes no longer reads (col32 and other weight formats).
Weight read_weight(const Checkpoint& checkpoint, const std::string& module, float threshold);

// The checkpoint's tensors as sources of a plan: logical shape and dtype of each weight, statistics folded
// in. The dtype of an int8 weight, which does not say what it was, is the model's. A tied matrix that is
// stored under the head's name alone is an embedding whose `module` is the embedding's. Errors: those of
// model_spec_of(); kMalformed for a statistic without its weight; kUnsupported for a tensor that the
// architecture does not have.
std::vector<SourceTensor> source_tensors(const Checkpoint& checkpoint);

// The checkpoint as it is, as a plan: parts are the stored tensors, so bytes() and hf_memory_footprint() are
// those of loading it unchanged.
Plan stored_plan(const Checkpoint& checkpoint);

// A checkpoint as the weights of a model. With a `plan` linear weights are quantized by `quantizer` as they
// are read (from a quantized checkpoint: from their dequantized values), all others cast to the plan's
// rest_dtype. All three must outlive the source, of which `concurrent_calls` threads may ask at once: each
// holds a weight as it is stored and as it is wanted.
std::unique_ptr<WeightSource> make_weight_source(const Checkpoint& checkpoint, const Plan* plan,
                                                 const Quantizer* quantizer, int concurrent_calls = 1);

}  // namespace qtool
