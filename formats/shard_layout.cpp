#include "formats/shard_layout.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/error.h"
#include "core/model/plan.h"
#include "formats/json.h"

namespace qtool {
namespace {

std::string shard_name(std::size_t index, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

// Indices into `tensors`, shard by shard.
std::vector<std::vector<std::size_t>> divide(const std::vector<TensorSpec>& tensors, std::int64_t max_bytes) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return dot_natural_less(tensors[a].name, tensors[b].name); });

  std::vector<std::vector<std::size_t>> shards;
  std::vector<std::size_t> filling;
  std::int64_t filled = 0;
  for (const std::size_t tensor : order) {
    const std::int64_t bytes = count_of(tensors[tensor].shape) * size_of(tensors[tensor].dtype);
    if (bytes > max_bytes) {
      shards.push_back({tensor});
      continue;
    }
    if (filled + bytes > max_bytes) {
      shards.push_back(std::move(filling));
      filling.clear();
      filled = 0;
    }
    filling.push_back(tensor);
    filled += bytes;
  }
  if (!filling.empty() || shards.empty()) shards.push_back(std::move(filling));
  return shards;
}

}  // namespace

ShardLayout shard_layout(const std::vector<TensorSpec>& tensors, std::int64_t max_shard_bytes) {
  if (max_shard_bytes <= 0) throw Error(ExitCode::kUsage, "the largest shard must be at least one byte");
  std::map<std::string_view, std::size_t> index_of;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!index_of.emplace(tensors[i].name, i).second) {
      throw Error(ExitCode::kMalformed, "the output would hold two tensors named '" +
                                            escaped(tensors[i].name) +
                                            "': the input uses the name of a quantization statistic");
    }
  }

  const std::vector<std::vector<std::size_t>> shards = divide(tensors, max_shard_bytes);
  ShardLayout result;
  result.places.resize(tensors.size());
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    std::vector<TensorSpec> members;
    for (const std::size_t tensor : shards[shard]) members.push_back(tensors[tensor]);
    result.shards.push_back({shard_name(shard, shards.size()), layout_of(std::move(members))});
    const std::vector<TensorInfo>& placed = result.shards.back().layout.tensors;
    for (std::size_t i = 0; i < placed.size(); ++i) result.places[index_of.at(placed[i].name)] = {shard, i};
  }
  return result;
}

std::int64_t ShardLayout::tensor_bytes() const {
  std::int64_t total = 0;
  for (const Shard& shard : shards)
    for (const TensorInfo& tensor : shard.layout.tensors) total += tensor.bytes;
  return total;
}

std::int64_t ShardLayout::file_bytes() const {
  std::int64_t total = 0;
  for (const Shard& shard : shards) total += shard.layout.file_bytes;
  return total;
}

std::string index_json(const ShardLayout& layout, std::int64_t total_parameters) {
  Json index = Json::object();
  index["metadata"] = {{"total_parameters", total_parameters}, {"total_size", layout.tensor_bytes()}};
  Json& weight_map = index["weight_map"] = Json::object();
  for (const Shard& shard : layout.shards)
    for (const TensorInfo& tensor : shard.layout.tensors) weight_map[tensor.name] = shard.file;
  return to_python_json(index);
}

}  // namespace qtool
