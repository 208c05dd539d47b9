#include "formats/checkpoint.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;
namespace fs = std::filesystem;

namespace {

std::string message_of(const std::string& folder, ExitCode expected) {
  try {
    Checkpoint::open(folder);
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == expected);
    return error.what();
  }
  FAIL("opened");
  return {};
}

bool says(const std::string& message, const std::string& words) {
  INFO(message);
  return message.find(words) != std::string::npos;
}

void replace_in(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = test::read_text(path);
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  test::write_text(path, text.replace(at, from.size(), to));
}

}  // namespace

TEST_CASE("one file and many shards hold the same tensors") {
  const test::TempFolder folder;
  const Checkpoint one = Checkpoint::open(test::make_checkpoint({}, folder / "one"));
  const Checkpoint many = Checkpoint::open(test::make_checkpoint({.shards = 4}, folder / "many"));
  CHECK(one.files().size() == 1);
  CHECK(many.files().size() == 4);
  CHECK(one.bytes() == many.bytes());
  REQUIRE(one.tensors().size() == many.tensors().size());
  CHECK(one.tensors().size() == 21);
  for (const test::RawTensor& raw : test::tensors_of({})) {
    for (const Checkpoint* checkpoint : {&one, &many}) {
      const Tensor tensor = checkpoint->read(raw.name);
      CHECK(tensor.shape() == raw.shape);
      CHECK(std::string(reinterpret_cast<const char*>(tensor.data()),
                        static_cast<std::size_t>(tensor.bytes())) == raw.bytes);
    }
  }
  CHECK(one.config()["hidden_size"] == 64);
}

TEST_CASE("parts of a tensor are read, nothing beyond it") {
  const test::TempFolder folder;
  const Checkpoint checkpoint = Checkpoint::open(test::make_checkpoint({}, folder.path()));
  const StoredTensor& norm = checkpoint.at("model.norm.weight");
  const Tensor whole = checkpoint.read("model.norm.weight");
  std::array<std::byte, 10> part;
  checkpoint.read(norm, 6, part);
  CHECK(std::equal(part.begin(), part.end(), whole.data() + 6));
  CHECK_THROWS_AS(checkpoint.read(norm, norm.info.bytes - 9, part), Error);
  CHECK_THROWS_AS(checkpoint.read(norm, -1, part), Error);
  CHECK_THROWS_AS(checkpoint.at("model.nothing.weight"), Error);
}

TEST_CASE("a model may be named by its weight file") {
  const test::TempFolder folder;
  test::make_checkpoint({}, folder / "m");
  CHECK(Checkpoint::open(folder / "m/model.safetensors").folder() == folder / "m");
  CHECK(says(message_of(folder / "m/config.json", ExitCode::kUsage), "neither a folder"));
}

TEST_CASE("a single file of another name is found, copies of other tools are passed over") {
  const test::TempFolder folder;
  test::make_checkpoint({}, folder.path());
  fs::rename(folder / "model.safetensors", folder / "weights.safetensors");
  test::write_text(folder / "_logits.safetensors", "no safetensors at all");
  test::write_text(folder / "consolidated.00.safetensors", "the same weights under other names");
  CHECK(Checkpoint::open(folder.path()).files()[0].path() == folder / "weights.safetensors");
  test::write_text(folder / "more.safetensors", "");
  CHECK(says(message_of(folder.path(), ExitCode::kNotFound), "2 .safetensors files"));
}

TEST_CASE("what is missing is named") {
  const test::TempFolder folder;
  CHECK(says(message_of(folder / "none", ExitCode::kNotFound), "does not exist"));
  CHECK(says(message_of(folder.path(), ExitCode::kNotFound), "config.json"));
  test::write_text(folder / "adapter_config.json", "{}");
  CHECK(says(message_of(folder.path(), ExitCode::kNotFound), "adapter"));
  test::write_text(folder / "config.json", "{}");
  CHECK(says(message_of(folder.path(), ExitCode::kNotFound), "holds no weights"));
  test::write_text(folder / "model.gguf", "");
  CHECK(says(message_of(folder.path(), ExitCode::kUnsupported), "model.gguf"));
  test::write_text(folder / "pytorch_model.bin", "");
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "no zip archive"));
  test::write_text(folder / "config.json", "[]");
  message_of(folder.path(), ExitCode::kMalformed);
}

TEST_CASE("index and shards must agree") {
  const test::TempFolder folder;
  const std::string index = folder / "model.safetensors.index.json";
  const std::string first = "model-00001-of-00002.safetensors";
  const auto make = [&] { test::make_checkpoint({.shards = 2}, folder.path()); };

  make();
  fs::remove(folder / first);
  CHECK(says(message_of(folder.path(), ExitCode::kNotFound), first));

  make();  // the index promises a tensor that no shard has
  replace_in(index, "\"weight_map\": {", "\"weight_map\": {\"extra\": \"" + first + "\", ");
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "'extra' is missing"));

  make();  // a shard has a tensor that the index does not know
  replace_in(index, "\"model.embed_tokens.weight\": \"" + first + "\", ", "");
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "does not know it"));

  make();  // a tensor lies in another shard than the index says
  replace_in(index, "\"model.embed_tokens.weight\": \"" + first,
             "\"model.embed_tokens.weight\": \"model-00002-of-00002.safetensors");
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "places it in"));

  make();  // the same tensor in both shards
  auto tensors = test::tensors_of({});
  test::write_safetensors(folder / "model-00002-of-00002.safetensors", tensors);
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "places it in"));

  for (const char* name :
       {"../elsewhere.safetensors", "/etc/x.safetensors", "a/b.safetensors", "config.json", ""}) {
    make();
    replace_in(index, "\"model.embed_tokens.weight\": \"" + first,
               "\"model.embed_tokens.weight\": \"" + std::string(name));
    CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "plain name"));
  }

  for (const char* content :
       {"{}", "[]", R"({"weight_map": []})", R"({"weight_map": {}})", R"({"weight_map": {"a": 1}})", "{"}) {
    make();
    test::write_text(index, content);
    INFO(content);
    message_of(folder.path(), ExitCode::kMalformed);
  }
}

TEST_CASE("a damaged shard is named") {
  const test::TempFolder folder;
  test::make_checkpoint({.shards = 2}, folder.path());
  fs::resize_file(folder / "model-00002-of-00002.safetensors", 1000);
  CHECK(says(message_of(folder.path(), ExitCode::kMalformed), "model-00002-of-00002.safetensors"));
}

TEST_CASE("every real checkpoint opens") {
  int opened = 0;
  for (const char* root : {"golden", "models"}) {
    if (!test::has_shared(root)) return;
    for (const auto& entry : fs::directory_iterator(test::shared(root))) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      INFO(entry.path().string());
      const Checkpoint checkpoint = Checkpoint::open(entry.path().string());
      CHECK(checkpoint.bytes() > 0);
      ++opened;
    }
  }
  CHECK(opened >= 60);
}
