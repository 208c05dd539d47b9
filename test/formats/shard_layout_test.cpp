// How tensors fall into files. The expected divisions were worked out by hand from the rule of
// huggingface_hub; the golden tests compare with what transformers wrote.
#include "formats/shard_layout.h"

#include <catch2/catch.hpp>

#include "core/error.h"

using namespace qtool;

namespace {

TensorSpec bytes_tensor(const std::string& name, std::int64_t bytes) { return {name, DType::kU8, {bytes}}; }

std::vector<std::vector<std::string>> names_by_shard(const ShardLayout& layout) {
  std::vector<std::vector<std::string>> names;
  for (const Shard& shard : layout.shards) {
    names.emplace_back();
    for (const TensorInfo& tensor : shard.layout.tensors) names.back().push_back(tensor.name);
  }
  return names;
}

using Names = std::vector<std::vector<std::string>>;

}  // namespace

TEST_CASE("one file holds everything up to the limit, to the byte") {
  const std::vector<TensorSpec> tensors{bytes_tensor("b", 60), bytes_tensor("a", 40)};
  const ShardLayout one = shard_layout(tensors, 100);
  REQUIRE(one.shards.size() == 1);
  CHECK(one.shards[0].file == "model.safetensors");
  CHECK(one.tensor_bytes() == 100);
  CHECK(one.file_bytes() == one.shards[0].layout.file_bytes);
  const ShardLayout two = shard_layout(tensors, 99);
  CHECK(names_by_shard(two) == Names{{"a"}, {"b"}});
  CHECK(two.shards[1].file == "model-00002-of-00002.safetensors");
}

TEST_CASE("tensors are dealt out in natural order, but lie in byte order within a file") {
  const ShardLayout layout = shard_layout(
      {bytes_tensor("layers.10.w", 10), bytes_tensor("layers.9.w", 10), bytes_tensor("layers.2.w", 10)}, 20);
  CHECK(names_by_shard(layout) == Names{{"layers.2.w", "layers.9.w"}, {"layers.10.w"}});
  const ShardLayout together =
      shard_layout({bytes_tensor("layers.10.w", 10), bytes_tensor("layers.9.w", 10)}, 20);
  CHECK(names_by_shard(together) == Names{{"layers.10.w", "layers.9.w"}});
}

TEST_CASE("a tensor over the limit becomes a shard before the one being filled") {
  const ShardLayout layout =
      shard_layout({bytes_tensor("a", 10), bytes_tensor("b", 1000), bytes_tensor("c", 10)}, 100);
  CHECK(names_by_shard(layout) == Names{{"b"}, {"a", "c"}});
}

TEST_CASE("places name every tensor given") {
  const std::vector<TensorSpec> tensors{
      bytes_tensor("z", 7), {"y", DType::kF32, {3, 2}}, bytes_tensor("x", 5)};
  const ShardLayout layout = shard_layout(tensors, 30);
  for (std::size_t i = 0; i < tensors.size(); ++i) CHECK(layout.info(i).name == tensors[i].name);
  CHECK(layout.info(1).bytes == 24);
}

TEST_CASE("the index names each tensor's file, sorted, with sizes") {
  const ShardLayout layout = shard_layout({bytes_tensor("b", 60), bytes_tensor("a", 40)}, 60);
  CHECK(index_json(layout, 123) ==
        "{\n  \"metadata\": {\n    \"total_parameters\": 123,\n    \"total_size\": 100\n  },\n"
        "  \"weight_map\": {\n    \"a\": \"model-00001-of-00002.safetensors\",\n"
        "    \"b\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
}

TEST_CASE("nonsense is refused") {
  CHECK_THROWS_AS(shard_layout({bytes_tensor("a", 1)}, 0), Error);
  CHECK_THROWS_AS(shard_layout({bytes_tensor("a", 1), bytes_tensor("a", 2)}, 10), Error);
  CHECK(shard_layout({}, 10).shards.size() == 1);  // an empty model is an empty file
}
