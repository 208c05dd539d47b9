#include "formats/quant_config.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

std::optional<QuantConfig> read(const std::string& block) {
  return quant_config_of(parse_json("{\"quantization_config\": " + block + "}", "config.json"));
}

ExitCode outcome(const std::string& block) {
  try {
    read(block);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("quantization_config") != std::string::npos);
    return error.code();
  }
  return ExitCode::kOk;
}

}  // namespace

TEST_CASE("a checkpoint without the block is not quantized") {
  CHECK(!quant_config_of(parse_json("{}", "c")));
  CHECK(!read("null"));
}

TEST_CASE("what a block leaves out has BitsAndBytesConfig's defaults") {
  const auto four = read(R"({"load_in_4bit": true})");
  REQUIRE(four);
  CHECK(four->spec.method == QuantMethod::kBlock4);
  CHECK(four->spec.code == Code4::kFp4);
  CHECK(four->spec.block_size == 64);
  CHECK(!four->spec.nested);
  CHECK(four->spec.compute_dtype == DType::kF32);
  CHECK(four->spec.storage == DType::kU8);
  CHECK(four->skip_modules.empty());
  const auto eight = read(R"({"load_in_8bit": true, "quant_method": "bitsandbytes"})");
  REQUIRE(eight);
  CHECK(eight->spec.method == QuantMethod::kInt8);
  CHECK(eight->spec.int8_threshold == 6.0f);
}

TEST_CASE("every value is read") {
  const auto config = read(R"({"load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": true, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "float32",
    "llm_int8_skip_modules": ["lm_head", "q_proj"], "llm_int8_threshold": 5.5, "some_future_key": [1]})");
  REQUIRE(config);
  CHECK(config->spec.code == Code4::kNf4);
  CHECK(config->spec.nested);
  CHECK(config->spec.compute_dtype == DType::kBF16);
  CHECK(config->spec.storage == DType::kF32);
  CHECK(config->skip_modules == std::vector<std::string>{"lm_head", "q_proj"});
}

TEST_CASE("what transformers refuses is refused") {
  constexpr ExitCode kOk = ExitCode::kOk, kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  const std::pair<const char*, ExitCode> cases[] = {
      {R"({"load_in_8bit": true, "llm_int8_threshold": 6.0})", kOk},
      {R"({"load_in_8bit": true, "llm_int8_threshold": 0.0})", kOk},
      {R"({"load_in_8bit": true, "llm_int8_threshold": 6})", kBad},
      {R"({"load_in_8bit": true, "llm_int8_threshold": "6.0"})", kBad},
      {R"({"load_in_8bit": true, "llm_int8_threshold": null})", kBad},
      {R"({"load_in_8bit": true, "llm_int8_threshold": -1.0})", kBad},
      {R"({"load_in_8bit": true, "llm_int8_threshold": 1e300})", kBad},
      {R"({"load_in_8bit": true, "load_in_4bit": true})", kBad},
      {R"({"load_in_8bit": false, "load_in_4bit": false})", kBad},
      {R"({"quant_method": "bitsandbytes"})", kBad},
      {R"({})", kBad},
      {R"([])", kBad},
      {R"("nf4")", kBad},
      {R"({"load_in_4bit": 1})", kBad},
      {R"({"load_in_4bit": true, "bnb_4bit_quant_type": "int4"})", kBad},
      {R"({"load_in_4bit": true, "bnb_4bit_quant_type": 4})", kBad},
      {R"({"load_in_4bit": true, "bnb_4bit_compute_dtype": "int8"})", kBad},
      {R"({"load_in_4bit": true, "bnb_4bit_quant_storage": "int64"})", kBad},
      {R"({"load_in_4bit": true, "bnb_4bit_use_double_quant": "yes"})", kBad},
      {R"({"load_in_4bit": true, "llm_int8_skip_modules": "lm_head"})", kBad},
      {R"({"load_in_4bit": true, "llm_int8_skip_modules": [1]})", kBad},
      {R"({"load_in_4bit": true, "llm_int8_skip_modules": null})", kOk},
      {R"({"quant_method": "gptq", "bits": 4})", kUnknown},
      {R"({"quant_method": "awq"})", kUnknown},
  };
  for (const auto& [block, expected] : cases) {
    INFO(block);
    CHECK(outcome(block) == expected);
  }
}

TEST_CASE("a block is written with every key, in Python's spelling") {
  QuantSpec spec;
  spec.method = QuantMethod::kInt8;
  CHECK(to_python_json(quant_config_json(spec, {})) == R"({
  "_load_in_4bit": false,
  "_load_in_8bit": true,
  "bnb_4bit_compute_dtype": "float32",
  "bnb_4bit_quant_storage": "uint8",
  "bnb_4bit_quant_type": "fp4",
  "bnb_4bit_use_double_quant": false,
  "llm_int8_enable_fp32_cpu_offload": false,
  "llm_int8_has_fp16_weight": false,
  "llm_int8_skip_modules": null,
  "llm_int8_threshold": 6.0,
  "load_in_4bit": false,
  "load_in_8bit": true,
  "quant_method": "bitsandbytes"
}
)");
  spec.int8_threshold = 5.3f;
  CHECK(to_python_json(quant_config_json(spec, {})).find("\"llm_int8_threshold\": 5.3,") !=
        std::string::npos);
  CHECK_THROWS_AS(quant_config_json(QuantSpec{}, {}), Error);
}

TEST_CASE("blocks that transformers wrote come back unchanged") {
  if (!test::has_shared("golden")) return;
  int blocks = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::shared("golden"))) {
    const std::string path = entry.path().string() + "/config.json";
    if (!std::filesystem::exists(path)) continue;
    const Json config = read_json_file(path);
    const auto quant = quant_config_of(config);
    if (!quant) continue;
    INFO(path);
    CHECK(quant_config_json(quant->spec, quant->skip_modules) == config["quantization_config"]);
    ++blocks;
  }
  CHECK(blocks >= 30);
}
