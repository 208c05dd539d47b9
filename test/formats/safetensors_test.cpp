#include "formats/safetensors.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "core/error.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

std::string length_word(std::uint64_t length) {
  std::string word;
  for (int i = 0; i < 8; ++i) word += static_cast<char>(length >> (8 * i));
  return word;
}

// A file of a header and `data_bytes` zero bytes; `length` where the length word shall lie.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_word(header.size()) + header + std::string(data_bytes, '\0');
}

ExitCode outcome(const std::string& content, std::string* message = nullptr) {
  static const test::TempFolder folder;
  test::write_text(folder / "x.safetensors", content);
  try {
    read_safetensors_header(InputFile(folder / "x.safetensors"));
  } catch (const Error& error) {
    if (message) *message = error.what();
    CHECK(error.path() == folder / "x.safetensors");
    CHECK(std::string(error.what()).find("x.safetensors") != std::string::npos);
    return error.code();
  }
  return ExitCode::kOk;
}

struct HeaderCase {
  const char* header;
  std::size_t data_bytes;
  ExitCode expected;
  const char* says = "";
};

constexpr ExitCode kOk = ExitCode::kOk, kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;

}  // namespace

TEST_CASE("headers, whole and damaged") {
  const HeaderCase cases[] = {
      // sound
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, kOk},
      {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4, kOk},
      {R"({})", 0, kOk},
      {R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, kOk},
      {R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       4, kOk},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"c":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, kOk},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}      )", 1, kOk},
      // no JSON, or not this JSON
      {"", 0, kBad, "begin with"},
      {"[]", 0, kBad, "begin with"},
      {" {}", 0, kBad, "begin with"},
      {"{", 0, kBad},
      {"{}x", 0, kBad},
      {"{\"a\xff\":{}}", 0, kBad, "UTF-8"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, kBad, "duplicate"},
      {R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, kBad, "duplicate"},
      {R"({"__metadata__":"pt"})", 0, kBad, "__metadata__"},
      {R"({"__metadata__":{"a":1}})", 0, kBad, "__metadata__"},
      {R"({"a":[1]})", 0, kBad, "has no dtype"},
      {R"({"a":null})", 0, kBad, "has no dtype"},
      // parts of a tensor
      {R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, kBad, "has no dtype"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, kBad, "has no shape"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, kBad, "has no data_offsets"},
      {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, kBad, "dtype"},
      {R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1, kUnknown, "F8_E4M3"},
      {R"({"a":{"dtype":"bfloat16","shape":[1],"data_offsets":[0,2]}})", 2, kUnknown, "BF16"},
      {R"({"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", 4, kBad, "no list"},
      {R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":["4"],"data_offsets":[0,4]}})", 4, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}})", 1, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":[null],"data_offsets":[0,1]}})", 1, kBad, "natural"},
      // products and numbers that overflow
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, kBad, "beyond"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, kBad, "counted"},
      {R"({"a":{"dtype":"F32","shape":[2147483648,2147483648],"data_offsets":[0,0]}})", 0, kBad, "counted"},
      {R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, kBad, "beyond"},
      {R"({"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}})", 1, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":[9223372036854775809],"data_offsets":[0,1]}})", 1, kBad, "beyond"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}})", 1, kBad, "beyond"},
      {R"({"a":{"dtype":"U8","shape":[65536,65536,65536,65536],"data_offsets":[0,0]}})", 0, kBad, "counted"},
      // offsets
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4, kBad, "no pair"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4, kBad, "no pair"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":"0,4"}})", 4, kBad, "no pair"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}})", 4, kBad, "natural"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4, kBad, "ends before"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,5]}})", 5, kBad, "has 5 bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, kBad, "need 8"},
      {R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}})", 4, kBad, "need 0"},
      // the data section
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3, kBad, "cut off"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 0, kBad, "cut off"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, kBad, "belong to no tensor"},
      {R"({})", 1, kBad, "belong to no tensor"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3, kBad, "hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, kBad, "hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, kBad, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, kBad, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
       4, kBad, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[4611686018427387903],"data_offsets":[0,4611686018427387903]}})", 4,
       kBad, "cut off"},
  };
  int damaged = 0;
  for (const HeaderCase& test_case : cases) {
    INFO(test_case.header);
    std::string message;
    CHECK(outcome(file_of(test_case.header, test_case.data_bytes), &message) == test_case.expected);
    INFO(message);
    CHECK(message.find(test_case.says) != std::string::npos);
    damaged += test_case.expected != kOk;
  }
  CHECK(damaged >= 45);
}

TEST_CASE("length words that lie") {
  const std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  CHECK(outcome("") == kBad);
  CHECK(outcome("1234567") == kBad);
  CHECK(outcome(length_word(0)) == kBad);
  CHECK(outcome(length_word(header.size() + 100) + header + "1234") == kBad);
  CHECK(outcome(length_word(header.size() - 1) + header + "1234") == kBad);
  CHECK(outcome(length_word(100'000'001) + header + "1234") == kBad);
  CHECK(outcome(length_word(std::uint64_t{1} << 63) + header + "1234") == kBad);
  CHECK(outcome(length_word(~std::uint64_t{0}) + header + "1234") == kBad);
  CHECK(outcome(length_word(header.size()) + header + "1234") == kOk);
}

TEST_CASE("every cut of a sound file is noticed") {
  const std::string whole = file_of(R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}})", 8);
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK(outcome(whole.substr(0, size)) == kBad);
  CHECK(outcome(whole) == kOk);
}

TEST_CASE("names from files are escaped in errors") {
  std::string message;
  CHECK(outcome(file_of(R"({"a\u001b[31m\n":{"dtype":"U8","shape":[4],"data_offsets":[0,3]}})", 3),
                &message) == kBad);
  CHECK(message.find('\x1b') == std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
}

TEST_CASE("a layout is ordered by dtype, then by name, and read back as it was meant") {
  const SafetensorsLayout layout = layout_of({{"b", DType::kU8, {3}},
                                              {"a", DType::kU8, {}},
                                              {"w", DType::kBF16, {2, 3}},
                                              {"B", DType::kF32, {1}},
                                              {"i", DType::kI8, {5}},
                                              {"h", DType::kF16, {1}},
                                              {"empty", DType::kI64, {0, 7}},
                                              {"quote\"\\\n\x01\xc3\xa9", DType::kF64, {1}}});
  std::vector<std::string> names;
  for (const TensorInfo& tensor : layout.tensors) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"empty", "quote\"\\\n\x01\xc3\xa9", "B", "w", "h", "i", "a", "b"});
  CHECK(layout.prefix.size() % 8 == 0);
  CHECK(layout.prefix.find(R"("quote\"\\\n\u0001)"
                           "\xc3\xa9\":") != std::string::npos);

  const test::TempFolder folder;
  test::write_text(
      folder / "x.safetensors",
      layout.prefix + std::string(static_cast<std::size_t>(layout.file_bytes) - layout.prefix.size(), '\0'));
  const SafetensorsHeader header = read_safetensors_header(InputFile(folder / "x.safetensors"));
  CHECK(header.metadata == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(header.tensors.size() == layout.tensors.size());
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    CHECK(header.tensors[i].name == layout.tensors[i].name);
    CHECK(header.tensors[i].dtype == layout.tensors[i].dtype);
    CHECK(header.tensors[i].shape == layout.tensors[i].shape);
    CHECK(header.tensors[i].begin == layout.tensors[i].begin);
    CHECK(header.tensors[i].bytes == layout.tensors[i].bytes);
  }
}

TEST_CASE("a file without tensors has a header all the same") {
  const SafetensorsLayout layout = layout_of({});
  CHECK(layout.prefix == length_word(32) + R"({"__metadata__":{"format":"pt"}})");
  CHECK(layout.file_bytes == 40);
}

TEST_CASE("layouts repeat the first bytes of files that the safetensors library wrote") {
  int same = 0;
  int other_writers = 0;
  for (const char* root : {"golden", "models"}) {
    if (!test::has_shared(root)) return;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(test::shared(root))) {
      if (entry.path().extension() != ".safetensors") continue;
      const InputFile file(entry.path().string());
      const SafetensorsHeader header = read_safetensors_header(file);
      std::string prefix(static_cast<std::size_t>(header.data_begin), '\0');
      file.read_at(0, std::as_writable_bytes(std::span(prefix)));
      // Files of other programs may lack the metadata that transformers writes first.
      if (header.metadata != std::map<std::string, std::string>{{"format", "pt"}}) {
        ++other_writers;
        continue;
      }
      std::vector<TensorSpec> tensors;
      for (const TensorInfo& tensor : header.tensors)
        tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
      std::reverse(tensors.begin(), tensors.end());
      INFO(entry.path().string());
      const SafetensorsLayout layout = layout_of(tensors);
      CHECK(layout.prefix == prefix);
      CHECK(layout.file_bytes == file.size());
      ++same;
    }
  }
  CAPTURE(same, other_writers);
  CHECK(same >= 60);
}
