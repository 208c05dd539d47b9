// Whether work that was begun is the work to be done: what `--resume` must know before it keeps a file.
#pragma once

#include <cstdint>
#include <string>

#include "core/model/plan.h"
#include "formats/checkpoint.h"

namespace qtool {

// A conversion, by what its bytes depend on.
struct Work {
  std::string made_by;  // the program's version
  std::string
      source;  // digest of the input's files: names, sizes, times of change, and what their headers say
  std::string output;  // digest of every output tensor, of how it is made, and of the shards
};

// Errors: kIo.
Work work_of(const Checkpoint& source, const Plan& plan, std::int64_t max_shard_bytes,
             const std::string& made_by);

std::string line_of(const Work& work);
// What tells the work noted as `line` from `work`, in words: "by another version of qtool"; empty if nothing
// does.
std::string difference(const std::string& line, const Work& work);

// Whether `folder` holds the finished work: this config.json, these tensors in these files, none of them
// older than any of the input. As make(1) does, it trusts the times; no weights are read.
bool is_finished(const std::string& folder, const Checkpoint& source, const Plan& plan,
                 std::int64_t max_shard_bytes);

}  // namespace qtool
