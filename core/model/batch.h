// Many prompts through one transformer ("continuous batching").
//
// A step of the transformer costs nearly the same for one token as for many, because most of it is reading
// weights. So every step takes along whatever is ready: the newest token of each sequence that is being
// continued, and pieces of the prompts that wait to be read. A sequence that ends leaves its place in the
// cache to the next prompt at once; none waits for the longest of its batch.
//
//   step      1      2      3      4      5
//   slot 0    AAAA   a      a      CCC    c        capital letters: tokens of a prompt
//   slot 1           BBBB   BB     b      b        (of B, the step's budget left only four at first)
//
// Source: Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022;
// pieces of prompts among decode steps: Agrawal et al., "Sarathi-Serve", OSDI 2024.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/model/session.h"

namespace qtool {

struct BatchResult {
  Generation generation;
  std::optional<Error> failure;  // why there is none
};

struct BatchRequest {
  std::vector<std::int32_t> prompt;
  GenerateParams params;
  TextOutput output;
  std::function<void(BatchResult)> done;
};

struct BatchFigures {
  std::int64_t prompt_tokens = 0;  // computed
  std::int64_t new_tokens = 0;
  std::int64_t steps = 0;
  std::int64_t sequences = 0;  // of all steps: how many each served

  double mean_batch() const {
    return steps > 0 ? static_cast<double>(sequences) / static_cast<double>(steps) : 0.0;
  }
};

// Runs all requests that `next` gives, until it gives none, at most capacity().sequences at a time; each
// one's `done` is called as it ends, in no particular order. A request that fails alone (an empty prompt, one
// beyond the context, ids outside the vocabulary, logits that are not finite) says so to its `done`.
//
// Each request draws its random numbers from its own seed, so what is sampled does not depend on the company.
// The logits do, in their last bits, unless the backend isolates rows (see Backend::isolate_rows). Where the
// rotary frequencies depend on the length of a step's longest sequence, sequences run one after the other.
//
// Errors: kInterrupted; those of the device.
BatchFigures run_batch(Transformer& transformer, const std::function<std::optional<BatchRequest>()>& next);

// The most sequences, up to `most`, whose cache and workspace fit in `available_bytes`; 0: not even one.
int sequences_that_fit(const ModelSpec& spec, std::int64_t context_tokens, DType kv_dtype,
                       std::int64_t available_bytes, int most);

}  // namespace qtool
