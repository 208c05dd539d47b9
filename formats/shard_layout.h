// How a checkpoint's tensors fall into safetensors files, as transformers 5 divides them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace qtool {

struct Shard {
  std::string file;  // "model.safetensors" or "model-00002-of-00005.safetensors"
  SafetensorsLayout layout;
};

// Where a tensor lies: shards[shard].layout.tensors[index].
struct Place {
  std::size_t shard = 0;
  std::size_t index = 0;
};

struct ShardLayout {
  std::vector<Shard> shards;
  std::vector<Place> places;  // of tensor i of those given

  const TensorInfo& info(std::size_t tensor) const {
    const Place& place = places[tensor];
    return shards[place.shard].layout.tensors[place.index];
  }
  std::int64_t tensor_bytes() const;  // of all tensors
  std::int64_t file_bytes() const;    // with headers
};

// Divides `tensors` in transformers' natural order of their names: a tensor joins the shard being filled
// unless that would pass `max_shard_bytes`; one that is larger by itself becomes a shard of its own at once,
// before the shard that is being filled. Errors: kMalformed for two tensors of one name, kUsage for a limit
// that is not positive. Source: huggingface_hub serialization/_base.py split_state_dict_into_shards_factory.
ShardLayout shard_layout(const std::vector<TensorSpec>& tensors, std::int64_t max_shard_bytes);

// model.safetensors.index.json. `total_parameters` counts a 4-bit weight as two a byte, as transformers does.
std::string index_json(const ShardLayout& layout, std::int64_t total_parameters);

}  // namespace qtool
