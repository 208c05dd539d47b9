#include "formats/json.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

std::string failure(const std::string& text) {
  try {
    parse_json(text, "x.json");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kMalformed);
    return error.what();
  }
  return "(parsed)";
}

std::string nested_arrays(int depth) {
  const auto n = static_cast<std::size_t>(depth);
  return std::string(n, '[') + std::string(n, ']');
}

}  // namespace

TEST_CASE("JSON that is whole is read") {
  const Json json = parse_json(R"( {"a": [1, -2, 3.5, true, null, "é😀"], "b": {}} )", "x.json");
  CHECK(json["a"][0] == 1);
  CHECK(json["a"][1] == -2);
  CHECK(json["a"][2] == 3.5);
  CHECK(json["a"][5] == "\xc3\xa9\xf0\x9f\x98\x80");
  CHECK(json["b"].is_object());
  CHECK(parse_json("18446744073709551615", "x.json") == 18446744073709551615u);
}

TEST_CASE("errors name file, line and column") {
  CHECK(failure("{\"a\": 1,\n \"a\": 2}") == "x.json:2:4: duplicate key 'a'");
  CHECK(failure("{\"a\": {\"b\": 1, \"c\": 2, \"b\": 3}}").find("x.json:1:26: duplicate key 'b'") == 0);
  CHECK(failure("{}\n{}").find("x.json:2:1: ") == 0);
  CHECK(failure("{\n  \"a\": tru\n}").find("x.json:2:") == 0);
  CHECK(failure("[1, 2").find("x.json:1:") == 0);
  CHECK(failure("").find("x.json:1:1: ") == 0);
  CHECK(failure("[NaN]").find("NaN and Infinity are not JSON") != std::string::npos);
  CHECK(failure("[1, -Infinity]").find("NaN and Infinity are not JSON") != std::string::npos);
  CHECK(failure("[1e999]").find("number overflow") != std::string::npos);
  CHECK(failure("[\"a\xff\"]").find("UTF-8") != std::string::npos);
  CHECK(failure("[\"\\ud800\"]").find("surrogate") != std::string::npos);
  CHECK(failure("[1,]") != "(parsed)");
  CHECK(failure("{\"a\" 1}") != "(parsed)");
  CHECK(failure("// no\n1") != "(parsed)");
}

TEST_CASE("an error sentence stays short and printable") {
  const std::string message = failure("[\"" + std::string(100000, 'x') + "\x01\"]");
  CHECK(message.size() < 400);
  for (const char c : message) CHECK(static_cast<unsigned char>(c) >= 0x20);
}

TEST_CASE("depth is limited") {
  CHECK(parse_json(nested_arrays(kMaxJsonDepth), "x.json").is_array());
  CHECK(failure(nested_arrays(kMaxJsonDepth + 1)) == "x.json:1:65: nested deeper than 64 levels");
  CHECK(failure(nested_arrays(1000000)).find("nested deeper") != std::string::npos);
}

TEST_CASE("what the library would pass over is refused") {
  CHECK(failure(std::string("{\"a\": 1}\0{\"a\": 2}", 17)) ==
        "x.json:1:9: a zero byte, which JSON does not have");
  CHECK(failure(std::string("[1]\n\0\0", 6)) == "x.json:2:1: a zero byte, which JSON does not have");
  CHECK(failure("\xEF\xBB\xBF{}").find("byte order mark") != std::string::npos);
}

bool fits(const std::string& text, std::int64_t memory) {
  try {
    parse_json(text, "x.json", memory);
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST_CASE("what values take in memory is counted, however short their text") {
  CHECK(parse_json("[1, 2, {\"a\": []}]", "x.json", 400).is_array());
  CHECK_THROWS_WITH(parse_json("[1, 2, {\"a\": []}]", "x.json", 200),
                    "x.json:1:8: its values take more than 200 bytes of memory");
  for (const char* value : {"1", "\"\"", "{}", "[]", "{\"\":{\"\":{\"\":{}}}}", "[[[[0]]]]"}) {
    std::string text = "[";
    for (int i = 0; i < 1000; ++i) text += std::string(i ? "," : "") + value;
    text += "]";
    INFO(value);
    CHECK(!fits(text, 12'000));
    CHECK(fits(text, 1'000'000));
  }
}

TEST_CASE("the largest tokenizer there is can be read: 262,144 tokens and 514,906 merges in 33 MB") {
  std::string text = "{\"model\": {\"vocab\": {";
  for (int i = 0; i < 262'144; ++i)
    text += (i ? ",\n      \"token " : "\n      \"token ") + std::to_string(100'000 + i) +
            "\": " + std::to_string(i);
  text += "}, \"merges\": [";
  for (int i = 0; i < 514'906; ++i)
    text += (i ? ",\n      [\n        \"le" : "\n      [\n        \"le") + std::to_string(i % 1000) +
            "\",\n        \"ri\"\n      ]";
  text += "]}}" + std::string(33'400'000 - text.size(), ' ');
  CHECK(parse_json(text, "tokenizer.json", kMaxTokenizerMemory)["model"]["merges"].size() == 514'906);
}

TEST_CASE("a string is not longer than any that is of use") {
  const auto text = [](std::int64_t bytes) {
    return "[\"" + std::string(static_cast<std::size_t>(bytes), 'x') + "\"]";
  };
  CHECK(parse_json(text(kMaxJsonTokenBytes - 10), "x.json")[0].is_string());
  CHECK(failure(text(kMaxJsonTokenBytes)).find("a string, a number or a gap of more than 4194304 bytes") !=
        std::string::npos);
}

TEST_CASE("the same key may come in different objects") {
  CHECK(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "x.json")[1]["a"]["a"] == 2);
}

TEST_CASE("typed access says what is wrong") {
  const Json json =
      parse_json(R"({"i": 7, "f": 1.5, "b": true, "s": "text", "n": null, "l": [1, 2.5], "m": [1, "a"],
                                  "u": 18446744073709551615})",
                 "c");
  CHECK(required_int(json, "i", "c") == 7);
  CHECK(optional_int(json, "n", 3, "c") == 3);
  CHECK(optional_int(json, "none", 4, "c") == 4);
  CHECK(optional_number(json, "i", 0, "c") == 7.0);
  CHECK(optional_bool(json, "b", false, "c"));
  CHECK(optional_string(json, "s", "", "c") == "text");
  CHECK(optional_numbers(json, "l", "c") == std::vector<double>{1, 2.5});
  CHECK_THROWS_WITH(required_int(json, "none", "c"), "c: 'none' is missing");
  CHECK_THROWS_WITH(required_int(json, "n", "c"), "c: 'n' is missing");
  CHECK_THROWS_WITH(required_int(json, "s", "c"), "c: 's' must be an integer, is \"text\"");
  CHECK_THROWS_WITH(required_int(json, "f", "c"), "c: 'f' must be an integer, is 1.5");
  CHECK_THROWS_AS(required_int(json, "u", "c"), Error);
  CHECK_THROWS_WITH(optional_bool(json, "i", false, "c"), "c: 'i' must be true or false, is 7");
  CHECK_THROWS_AS(optional_numbers(json, "m", "c"), Error);
  CHECK_THROWS_AS(optional_numbers(json, "i", "c"), Error);
  CHECK_THROWS_AS(required_int(json["l"], "i", "c"), Error);
}

TEST_CASE("printing is Python's json.dumps(indent=2, sort_keys=True)") {
  const Json value = parse_json(
      R"({"z": [], "a": {}, "list": [1, -2, 0.1, 1e-5, 1e16, 123456789012345680.0, 1.0, -0.0, 5e-324],)"
      R"( "text": "q\" b\\ / \b\f\n\r\t \u0001 \u007f é € 😀", "nested": {"b": null, "a": [true, [false]]}, "B": 6.0})",
      "x");
  CHECK(to_python_json(value) == R"({
  "B": 6.0,
  "a": {},
  "list": [
    1,
    -2,
    0.1,
    1e-05,
    1e+16,
    1.2345678901234568e+17,
    1.0,
    -0.0,
    5e-324
  ],
  "nested": {
    "a": [
      true,
      [
        false
      ]
    ],
    "b": null
  },
  "text": "q\" b\\ / \b\f\n\r\t \u0001 \u007f \u00e9 \u20ac \ud83d\ude00",
  "z": []
}
)");
  CHECK(to_python_json(Json::array({std::nan(""), INFINITY, -INFINITY})) ==
        "[\n  NaN,\n  Infinity,\n  -Infinity\n]\n");
  CHECK_THROWS_AS(to_python_json(Json("\xff")), Error);
}

TEST_CASE("files that transformers wrote are printed back byte for byte") {
  if (!test::has_shared("golden")) return;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test::shared("golden"))) {
    const std::string name = entry.path().filename().string();
    if (name != "config.json" && name != "generation_config.json" && name != "model.safetensors.index.json")
      continue;
    INFO(entry.path().string());
    CHECK(to_python_json(read_json_file(entry.path().string())) == test::read_text(entry.path().string()));
    ++files;
  }
  CHECK(files > 100);
}

TEST_CASE("a JSON file's errors carry its path") {
  const test::TempFolder folder;
  test::write_text(folder / "bad.json", "{");
  try {
    read_json_file(folder / "bad.json");
    FAIL("parsed");
  } catch (const Error& error) {
    CHECK(error.path() == folder / "bad.json");
  }
  CHECK_THROWS_AS(read_json_file(folder / "none.json"), Error);
  CHECK_THROWS_AS(read_json_file(folder / "bad.json", (JsonBounds{0})), Error);
}
