// A whole small model folder in memory, made of real samples, with everything about it open to change: also
// what no writer of such files would write.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "formats/checkpoint.h"
#include "formats/json.h"
#include "test/fuzz/fuzz.h"

namespace qtool::test {

// A tensor as the header is to describe it, which need not be true of its bytes.
struct MiniTensor {
  std::string name;
  std::string dtype;  // "BF16"
  Shape shape;
  std::string bytes;
  std::int64_t begin_shift = 0, end_shift = 0;  // of its data_offsets, away from where its bytes lie
};

struct MiniShard {
  std::string name;
  std::vector<MiniTensor> tensors;
  std::int64_t header_shift = 0;  // of the header's length
  std::int64_t cut = 0;           // bytes missing at the end; negative: that many too many
};

struct MiniCheckpoint {
  Json config;
  std::vector<MiniShard> shards;
  std::vector<std::pair<std::string, std::string>> weight_map;  // empty: no index is written
  std::map<std::string, std::string> files;                     // all others: name -> content
};

// The sample number `family` of test/data/families, in one file, its linear layers stored as `scheme` says,
// with a tokenizer. Made once and kept.
inline constexpr int kMiniSchemes = 5;  // as it is, NF4, NF4 nested, FP4, LLM.int8
const MiniCheckpoint& mini_sample(std::size_t family, int scheme);

// Its one file as two with an index.
void shard(MiniCheckpoint& checkpoint);
// Rows for all tensors where they are.
void write_index(MiniCheckpoint& checkpoint);

// Replaces what the folder holds by this checkpoint.
void write_mini(const MiniCheckpoint& checkpoint, const FuzzFolder& folder);

// Changes as many things as `bytes` ask for. `values_changed`: also the tensors' values, so that they need
// not be finite any more.
struct MiniChange {
  bool values_changed = false;
};
MiniChange mutate(MiniCheckpoint& checkpoint, std::string_view bytes);

// Runs an accepted checkpoint on the CPU for a few tokens.
void run_mini(const Checkpoint& checkpoint);

}  // namespace qtool::test
