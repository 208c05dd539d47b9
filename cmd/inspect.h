// The views of `qtool inspect`, one function each: they print their payload on stdout.
#pragma once

#include <string>
#include <vector>

#include "cmd/cli.h"
#include "cmd/logical_tensors.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"

namespace qtool {

// Something wrong with a checkpoint. kMalformed: it contradicts itself; kVerification: its values are no
// numbers; kUnsupported: not known to qtool; kOk: a remark, worth knowing.
struct Problem {
  ExitCode code;
  std::string message;
};

// What config.json, the headers and the small files say against each other; reads no weights.
std::vector<Problem> find_problems(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors);

// What the values say: every quantized weight can be read, no NaN, no infinity. Reads everything.
std::vector<Problem> check_values(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors,
                                  const CommonOptions& common);

// "malformed", "values", "unsupported", "note": the word for a problem.
std::string_view word_of(const Problem& problem);

// The row of the checkpoint's architecture; nothing for one that qtool does not know.
const Architecture* known_architecture(const Checkpoint& checkpoint);

// The whole model at a glance. Here and below `svg` is a file for a picture of it; empty: none.
void print_summary(const Checkpoint& checkpoint, const std::string& svg, const CommonOptions& common);

// --tensors: one line each, stored tensors as they are. Errors: kNotFound when `glob` matches none.
void print_tensors(const Checkpoint& checkpoint, const std::string& glob, const CommonOptions& common);

// --tensor: one tensor. Errors: kNotFound, with the nearest names.
void print_tensor(const Checkpoint& checkpoint, const std::string& name, bool stats, bool histogram,
                  const std::string& svg, const CommonOptions& common);

// --verify. Errors: kMalformed or kVerification after the findings are printed.
void print_verification(const Checkpoint& checkpoint, const CommonOptions& common);

// --hash: SHA-256 of every tensor's bytes, and one of all that does not depend on how tensors lie in shards.
void print_hashes(const Checkpoint& checkpoint, const CommonOptions& common);

// --diff: returns whether they differ.
bool print_difference(const Checkpoint& here, const Checkpoint& there, const CommonOptions& common);

}  // namespace qtool
