// model.safetensors.index.json, of a checkpoint whose two shards are whole.
#include "formats/checkpoint.h"
#include "test/fuzz/fuzz.h"

namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

std::shared_ptr<const qtool::ByteSource> shard_with(std::vector<qtool::TensorSpec> tensors) {
  qtool::SafetensorsLayout layout = qtool::layout_of(std::move(tensors));
  layout.prefix.resize(static_cast<std::size_t>(layout.file_bytes));
  return std::make_shared<qtool::test::MemorySource>(std::move(layout.prefix));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using qtool::DType;
  static const qtool::test::FuzzFolder folder;
  static const qtool::RemoteFiles shards = [] {
    folder.write("config.json", "{}");
    return qtool::RemoteFiles{
        {"model-00001-of-00002.safetensors", shard_with({{"a", DType::kF32, {2}}, {"b", DType::kU8, {}}})},
        {"model-00002-of-00002.safetensors", shard_with({{"c", DType::kBF16, {2, 3}}})}};
  }();
  folder.write(kIndex, qtool::test::text_of(data, size));
  return qtool::test::survives([&] {
    const qtool::Checkpoint checkpoint = qtool::Checkpoint::open(folder.path(), shards);
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      qtool::test::must_hold(std::ssize(checkpoint.read(name).shape()) <= 2, "a shard's tensor changed");
      const std::string& file = checkpoint.files().at(static_cast<std::size_t>(tensor.file)).path();
      qtool::test::must_hold(file.substr(0, file.rfind('/')) == folder.path(),
                             "a shard is not in its folder");
    }
  });
}
