// pytorch_model.bin: what torch wrote is read, what would run code or reach outside the file is refused.
#include "formats/torch_file.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "core/error.h"
#include "formats/checkpoint.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"
#include "test/support/zip.h"

using namespace qtool;
using test::ZipMemberSpec;

namespace {

// Instructions of pickle, as torch uses them.
std::string text(const std::string& value) { return "X" + test::little_endian(value.size(), 4) + value; }
std::string integer(int value) { return "J" + test::little_endian(static_cast<std::uint32_t>(value), 4); }
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string dimensions(const std::vector<int>& values) {
  std::string items = "(";
  for (const int value : values) items += integer(value);
  return items + "t";
}
std::string tensor(const std::string& storage, const std::string& key, int elements, int offset,
                   const std::vector<int>& shape, const std::vector<int>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "((" + text("storage") + global("torch", storage) +
         text(key) + text("cpu") + integer(elements) + "tQ" + integer(offset) + dimensions(shape) +
         dimensions(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
std::string state_dict(const std::string& items) { return std::string("\x80\x02}(") + items + "u."; }
const std::string kGood = state_dict(text("a") + tensor("FloatStorage", "0", 6, 1, {2, 2}, {2, 1}) +
                                     text("b") + tensor("BFloat16Storage", "1", 3, 0, {3}, {1}));

std::vector<ZipMemberSpec> members_with(const std::string& pickle) {
  return {{"m/data.pkl", pickle},
          {"m/byteorder", "little"},
          {"m/data/0", std::string(24, '\1')},
          {"m/data/1", std::string(6, '\2')}};
}

std::vector<TensorInfo> read(const std::string& archive) {
  const test::TempFolder folder;
  test::write_text(folder / "pytorch_model.bin", archive);
  return read_torch_file(InputFile(folder / "pytorch_model.bin"));
}

void refused(const std::string& archive, const std::string& words, ExitCode code = ExitCode::kMalformed) {
  INFO(words);
  try {
    read(archive);
    FAIL("read");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    CHECK(std::string(error.what()).find(words) != std::string::npos);
  }
}
void refused_pickle(const std::string& pickle, const std::string& words,
                    ExitCode code = ExitCode::kMalformed) {
  refused(test::zip_archive(members_with(pickle)), words, code);
}
void refused_item(const std::string& item, const std::string& words, ExitCode code = ExitCode::kMalformed) {
  refused_pickle(state_dict(text("a") + item), words, code);
}

}  // namespace

TEST_CASE("a state_dict's tensors are found where they lie") {
  const std::string archive = test::zip_archive(members_with(kGood));
  const std::vector<TensorInfo> tensors = read(archive);
  REQUIRE(tensors.size() == 2);
  CHECK(tensors[0].name == "a");
  CHECK(tensors[0].dtype == DType::kF32);
  CHECK(tensors[0].shape == Shape{2, 2});
  CHECK(tensors[0].bytes == 16);
  CHECK(archive.substr(static_cast<std::size_t>(tensors[0].begin) - 4, 24) == std::string(24, '\1'));
  CHECK(tensors[1].dtype == DType::kBF16);
  CHECK(archive.substr(static_cast<std::size_t>(tensors[1].begin), 6) == std::string(6, '\2'));
}

TEST_CASE("a pickle that asks for anything but tensors is refused by name") {
  const std::string call = "(" + text("echo") + "tR";
  refused_item(global("os", "system") + call, "'os.system'");
  refused_item(global("builtins", "eval") + call, "'builtins.eval'");
  refused_item(text("posix") + text("system") + "\x93" + call, "'posix.system'");
  refused_item(global("torch", "load") + call, "'torch.load'");
  refused_item(global("collections", "OrderedDict\x1b[2J") + call, "\\x1b");  // printed escaped
  refused_item(std::string("(i") + "os\nsystem\n", "'i'");                    // INST, another way to import
  refused_item("(" + text("x") + "o", "'o'");                                 // OBJ, another way to call
  refused_item("\x81", "0x81");                                               // NEWOBJ
  refused_item(integer(3), "no tensor");
  refused_item(global("torch", "FloatStorage") + ")R", "out of nothing");
}

TEST_CASE("a pickle that contradicts itself or its archive is refused") {
  refused_pickle("", "cut off");
  refused_pickle(kGood.substr(0, kGood.size() - 1), "cut off");
  refused_pickle("\x80\x07.", "protocol 7", ExitCode::kUnsupported);
  refused_pickle(".", "not put");
  refused_pickle("h\x05.", "remembered");
  refused_pickle("t.", "mark");
  refused_pickle("K\x01.", "dictionary of tensors");
  refused_pickle("}(" + text("a") + "u.", "key without a value");
  refused_item(tensor("FloatStorage", "9", 6, 0, {2}, {1}), "storage that the archive does not hold");
  refused_item(tensor("FloatStorage", "0", 6, 5, {2}, {1}), "beyond its storage");
  refused_item(tensor("FloatStorage", "0", 6, 0, {7}, {1}), "beyond its storage");
  refused_item(tensor("FloatStorage", "0", 6, -1, {2}, {1}), "out of range");
  refused_item(tensor("FloatStorage", "0", 6, 0, {1 << 30, 1 << 30, 1 << 30}, {1, 1, 1}), "counted");
  refused_item(tensor("FloatStorage", "0", 6, 0, {2, 2}, {3, 1}), "strides", ExitCode::kUnsupported);
  refused_item(tensor("FloatStorage", "0", 6, 0, {2, 3}, {1}), "fewer strides");
  const std::string same = tensor("FloatStorage", "0", 6, 0, {2}, {1});
  refused_pickle(state_dict(text("a") + same + text("a") + same), "there twice");
}

TEST_CASE("an archive that is none, or not torch's, is refused") {
  refused("", "no zip archive");
  refused(std::string(1000, 'x'), "no zip archive");
  refused("\x80\x02\x8a\x0al\xfc\x9c\x46", "torch before 1.6", ExitCode::kUnsupported);
  refused(test::zip_archive({}), "no data.pkl");
  refused(test::zip_archive({{"m/data.pkl", kGood, 8}}), "compressed", ExitCode::kUnsupported);
  refused(test::zip_archive({{"m/data.pkl", kGood}, {"m/data.pkl", kGood}}), "there twice");
  std::vector<ZipMemberSpec> members = members_with(kGood);
  members[1].content = "bigger";
  refused(test::zip_archive(members), "byte order", ExitCode::kUnsupported);
  members = members_with(std::string(4'000'001, 'N'));
  refused(test::zip_archive(members), "more than the 4000000");
}

TEST_CASE("no cut and no flipped byte of a file does worse than an error") {
  const std::string archive = test::zip_archive(members_with(kGood));
  const auto survives = [](const std::string& bytes) {
    try {
      read(bytes);
    } catch (const Error& error) {
      CHECK((error.code() == ExitCode::kMalformed || error.code() == ExitCode::kUnsupported));
    }
  };
  for (std::size_t size = 0; size < archive.size(); ++size) survives(archive.substr(0, size));
  for (std::size_t at = 0; at < archive.size(); ++at)
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string changed = archive;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      survives(changed);
    }
}

TEST_CASE("a transposed matrix is read as the matrix it is") {
  // [3, 2] whose columns lie one behind the other: 0, 1, 2 | 3, 4, 5
  std::vector<ZipMemberSpec> members =
      members_with(state_dict(text("a") + tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3})));
  const float stored[] = {0, 1, 2, 3, 4, 5};
  std::memcpy(members[2].content.data(), stored, sizeof stored);
  const test::TempFolder folder;
  test::write_text(folder / "pytorch_model.bin", test::zip_archive(members));
  test::write_text(folder / "config.json", "{}");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const Tensor whole = checkpoint.read("a");
  const float expected[] = {0, 3, 1, 4, 2, 5};
  CHECK(std::equal(std::begin(expected), std::end(expected), whole.as<float>().begin()));
  for (std::int64_t begin = 0; begin < 6; ++begin)
    for (std::int64_t end = begin; end <= 6; ++end) {
      std::vector<float> piece(static_cast<std::size_t>(end - begin));
      checkpoint.read(checkpoint.at("a"), begin * 4, std::as_writable_bytes(std::span(piece)));
      CHECK(std::equal(piece.begin(), piece.end(), expected + begin));
    }
}
