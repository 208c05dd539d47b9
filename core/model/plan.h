// Which tensor becomes what, why, and how many bytes: quantize, footprint and inspect all read the same plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/roles.h"
#include "core/quant/spec.h"
#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool {

// A tensor of an unquantized checkpoint, as its header describes it.
struct SourceTensor {
  std::string name;  // "model.layers.0.mlp.up_proj.weight"
  DType dtype;
  Shape shape;
  TensorRole role;
  std::string module = {};  // of the output, where it is not that of `name`: a tied matrix stored under the
                            // head's name, a file without the model's prefix
  ModuleKind kind = ModuleKind::kLinear;  // of a weight's module; means something for linear roles only
  bool stored_quantized = false;          // with bitsandbytes' statistics
};

// What is to be done, resolved from the options and the checkpoint.
struct PlanOptions {
  QuantSpec quant;                  // method kNone keeps (or, from a quantized input, restores) all
  DType rest_dtype = DType::kBF16;  // of tensors that stay unquantized; also their dtype before quantization
  std::vector<std::string> skip_modules;  // the user's, added to the automatic ones
  bool all_linears = false;               // also what today's transformers leaves unquantized (kOther)
  bool tied_head = false;
  std::string head_module = "lm_head";  // where the model has its output head, whether stored or not
};

// One tensor of the input and the pieces it becomes.
struct PlanEntry {
  SourceTensor source;
  std::string module;  // name without ".weight" / ".bias"
  bool quantized = false;
  bool transposed = false;  // the values of the output are the stored matrix transposed (Conv1D)
  std::string reason;       // why it is kept, in words; empty when quantized
  std::vector<Part> parts;  // full name of a part: `module` + suffix; a kept tensor has one
};

struct Plan {
  QuantSpec quant;
  DType rest_dtype;
  std::vector<std::string>
      skip_modules;                // resolved: what quantization_config's llm_int8_skip_modules shall list
  std::vector<PlanEntry> entries;  // in the order of the output: transformers' dot_natural_key of the names
  std::vector<SourceTensor> dropped;  // not in the output: stray buffers, the second copy of a tied matrix

  std::int64_t bytes() const;  // of all parts
  std::int64_t unreplaced_bytes()
      const;                        // of products that stay unquantized because their modules are kOther
  std::int64_t parameters() const;  // logical elements of all sources, tied once
  // transformers' get_memory_footprint(): codes and kept tensors; no statistics, but rotary buffers of
  // `buffer_bytes`.
  std::int64_t hf_memory_footprint(std::int64_t buffer_bytes) const;
};

// Decides for every tensor. Linear weights are quantized except
//   - the output head, and what is tied to the embedding (transformers' get_keys_to_not_convert)
//   - modules that are no nn.Linear or Conv1D in transformers, whose loader would not know what to do with
//     their statistics; with `all_linears` those, too, but for routers: choosing an expert is cheap and
//     coarse
//   - modules that `skip_modules` matches by a leaf name or a full dotted name
//   - ...and nothing else: whatever is kept carries its reason.
// The shape of a Conv1D's source is [out, in], however it is stored; kept, its part is [in, out] as in any
// checkpoint.
// Errors: kUsage for a skip module that matches nothing; kUnsupported for a storage type that does not divide
// a weight.
Plan make_plan(std::vector<SourceTensor> tensors, const PlanOptions& options);

// Bytes of the buffers that transformers 5 keeps for rotary embeddings and counts in its footprint: inv_freq
// and original_inv_freq, float32 [rotary_dim / 2] each.
constexpr std::int64_t rotary_buffer_bytes(int rotary_dim) {
  return 2 * std::int64_t{4} * ((rotary_dim + 1) / 2);
}

// transformers' order of a saved state_dict: names split at dots, numeric parts by value, trailing digits by
// value.
bool dot_natural_less(const std::string& a, const std::string& b);

}  // namespace qtool
