// Lengths that are known late, wrong guesses, files put together again, and waiting. Every case compares the
// files with those that a writer with perfect foresight makes.
#include "formats/checkpoint_writer.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <random>
#include <thread>

#include "core/error.h"
#include "test/support/make_checkpoint.h"

using namespace qtool;
using test::TempFolder;

namespace {

// A model of `layers` quantized weights: fixed pieces, and one whose true length differs from the foreseen
// one.
struct Made {
  std::vector<PlannedTensor> tensors;
  std::vector<std::int64_t> true_bytes;
};

Made make_tensors(int layers, std::int64_t foreseen, const std::vector<std::int64_t>& errors) {
  Made made;
  const auto add = [&](const std::string& name, DType dtype, std::int64_t count, std::int64_t error,
                       bool open) {
    made.tensors.push_back({{name, dtype, {count}}, open});
    made.true_bytes.push_back(count * size_of(dtype) + error);
  };
  for (int layer = 0; layer < layers; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".w.weight";
    add(name, DType::kU8, 300 + 10 * layer, 0, false);
    add(name + ".absmax", DType::kU8, 20, 0, false);
    add(name + ".nested_absmax", DType::kF32, 3, 0, false);
    add(name + ".quant_state", DType::kU8, foreseen, errors[static_cast<std::size_t>(layer) % errors.size()],
        true);
  }
  add("model.norm.weight", DType::kBF16, 33, 0, false);
  return made;
}

std::vector<std::byte> content(std::size_t tensor, std::int64_t bytes) {
  std::mt19937 random(static_cast<unsigned>(tensor) + 1);
  std::vector<std::byte> made(static_cast<std::size_t>(bytes));
  for (std::byte& byte : made) byte = static_cast<std::byte>(random() & 0xff);
  return made;
}

// All files by name.
std::map<std::string, std::string> files_in(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = test::read_text(entry.path().string());
  return files;
}

// What a writer that knew all lengths from the beginning makes of it.
std::map<std::string, std::string> expected(const Made& made, std::int64_t max_shard) {
  std::vector<TensorSpec> specs;
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    specs.push_back(made.tensors[i].spec);
    specs.back().shape = {made.true_bytes[i] / size_of(specs.back().dtype)};
  }
  const ShardLayout layout = shard_layout(specs, max_shard);
  std::map<std::string, std::string> files;
  for (const Shard& shard : layout.shards) {
    std::string& file = files[shard.file] = shard.layout.prefix;
    file.resize(static_cast<std::size_t>(shard.layout.file_bytes));
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const std::vector<std::byte> bytes = content(i, made.true_bytes[i]);
    std::memcpy(files[layout.shards[layout.places[i].shard].file].data() + layout.info(i).begin, bytes.data(),
                bytes.size());
  }
  if (layout.shards.size() > 1) files["model.safetensors.index.json"] = index_json(layout, 7);
  return files;
}

// Writes tensors in two pieces with `threads` threads, in an order that may wait but never for ever: all of
// them, or the first `count`.
void write_tensors(CheckpointWriter& writer, const Made& made, int threads,
                   std::size_t count = std::numeric_limits<std::size_t>::max()) {
  std::vector<std::vector<std::size_t>> owners(made.tensors.size());
  for (std::size_t i = 0; i < made.tensors.size(); ++i) owners[i] = {i};
  std::vector<std::size_t> order = write_order(writer.foreseen(), owners);
  order.resize(std::min(order.size(), count));
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < order.size(); i = next++) {
      const std::size_t tensor = order[i];
      const std::vector<std::byte> bytes = content(tensor, made.true_bytes[tensor]);
      if (made.tensors[tensor].open_length) writer.set_length(tensor, made.true_bytes[tensor]);
      const std::span<const std::byte> all(bytes);
      writer.write(tensor, std::ssize(bytes) / 2, all.subspan(bytes.size() / 2));
      writer.write(tensor, 0, all.first(bytes.size() / 2));
    }
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
}

std::size_t check_written(const Made& made, std::int64_t max_shard, int threads) {
  const TempFolder temporary;
  AtomicFolder folder(temporary / "out", false);
  CheckpointWriter writer(folder, made.tensors, max_shard);
  write_tensors(writer, made, threads);
  const CheckpointWriter::Result result = writer.finish(7);
  folder.commit();
  CHECK(files_in(temporary / "out") == expected(made, max_shard));
  return result.rebuilt_files;
}

}  // namespace

TEST_CASE("lengths that turn out otherwise move what follows") {
  for (const int threads : {1, 2, 7})
    for (const std::int64_t max_shard : {std::int64_t{1} << 40, std::int64_t{1500}, std::int64_t{400}}) {
      CAPTURE(threads, max_shard);
      check_written(make_tensors(12, 170, {0}), max_shard, threads);
      check_written(make_tensors(12, 170, {-1, 0, 2, -3, 1}), max_shard, threads);
    }
  // Small errors in one big file need no second writing.
  CHECK(check_written(make_tensors(12, 170, {1, -1, 0}), std::int64_t{1} << 40, 2) == 0);
}

TEST_CASE("a header that grows by a word makes the file be put together again") {
  // Enough tensors that offsets gain digits, and lengths gain one too: "[97]" becomes "[107]".
  CHECK(check_written(make_tensors(40, 97, {10}), std::int64_t{1} << 40, 2) == 1);
}

TEST_CASE("tensors that change their shard are moved") {
  // The limit is what the foreseen pieces of the first layers need: one byte more and the last piece goes to
  // the next.
  const Made made = make_tensors(9, 170, {1, 0, 3});
  std::size_t rebuilt = 0;
  for (std::int64_t max_shard = 500; max_shard < 700; max_shard += 7)
    rebuilt += check_written(made, max_shard, 3);
  CHECK(rebuilt > 0);
  // Fewer and more shards than foreseen.
  check_written(make_tensors(9, 170, {-160}), 700, 2);
  check_written(make_tensors(9, 10, {290}), 700, 2);
}

TEST_CASE("random layouts") {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::int64_t> errors;
    for (int i = 0; i < 5; ++i) errors.push_back(static_cast<std::int64_t>(random() % 9) - 4);
    const auto foreseen = static_cast<std::int64_t>(5 + random() % 200);
    const auto layers = static_cast<int>(1 + random() % 30);
    const auto max_shard = static_cast<std::int64_t>(100 + random() % 4000);
    CAPTURE(round, foreseen, layers, max_shard);
    check_written(make_tensors(layers, foreseen, errors), max_shard, 1 + round % 3);
  }
}

TEST_CASE("a successor keeps what is finished, and the bytes are the same") {
  std::mt19937 random(11);
  std::size_t kept = 0, discarded = 0;
  for (int round = 0; round < 25; ++round) {
    std::vector<std::int64_t> errors;
    for (int i = 0; i < 5; ++i) errors.push_back(static_cast<std::int64_t>(random() % 9) - 4);
    const auto foreseen = static_cast<std::int64_t>(5 + random() % 200);
    const auto layers = static_cast<int>(1 + random() % 12);
    const auto max_shard = static_cast<std::int64_t>(400 + random() % 800);
    const Made made = make_tensors(layers, foreseen, errors);
    CAPTURE(round, foreseen, layers, max_shard);
    const TempFolder temporary;
    for (int interruptions = 0; interruptions < 2; ++interruptions) {
      AtomicFolder folder(temporary / "out", false, Leftovers::kKept);
      CheckpointWriter writer(folder, made.tensors, max_shard, "work");
      write_tensors(writer, made, 1 + round % 3, random() % (made.tensors.size() + 1));
      folder.suspend();
    }
    const std::string work = round % 5 == 0 ? "other" : "work";
    AtomicFolder folder(temporary / "out", false, Leftovers::kKept);
    CheckpointWriter writer(folder, made.tensors, max_shard, work);
    (work == "work" ? kept : discarded) += writer.kept_files();
    CHECK((writer.kept_files() > 0) == (writer.kept_bytes() > 0));
    write_tensors(writer, made, 2);
    writer.finish(7);
    folder.commit();
    CHECK(files_in(temporary / "out") == expected(made, max_shard));
  }
  CHECK(kept > 20);
  CHECK(discarded == 0);
}

TEST_CASE("a failed thread wakes those that wait for it") {
  const TempFolder temporary;
  AtomicFolder folder(temporary / "out", false);
  const Made made = make_tensors(2, 170, {0});
  CheckpointWriter writer(folder, made.tensors, 1 << 30);
  std::thread waiting([&] {
    const std::vector<std::byte> bytes = content(4, made.true_bytes[4]);
    CHECK_THROWS_AS(writer.write(4, 0, bytes), Error);  // layer 1 waits for layer 0's quant_state
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  writer.cancel();
  waiting.join();
  CHECK_THROWS_AS(writer.finish(7), Error);
}

TEST_CASE("misuse is found out") {
  const TempFolder temporary;
  AtomicFolder folder(temporary / "out", false);
  const Made made = make_tensors(1, 170, {0});
  CheckpointWriter writer(folder, made.tensors, 1 << 30);
  const std::vector<std::byte> bytes(1000);
  CHECK_THROWS_AS(writer.write(0, 0, bytes), Error);  // beyond its end
  CHECK_THROWS_AS(writer.write(3, 0, {}), Error);     // its length is not known
  CHECK_THROWS_AS(writer.set_length(0, 5), Error);    // not open
  writer.set_length(3, 170);
  CHECK_THROWS_AS(writer.set_length(3, 170), Error);
}
