// Byte for byte what transformers + bitsandbytes on CUDA wrote.
//
// Two sets: every folder made on CUDA of the reference material beside the repository (compared file by
// file), and hashes of the tensors of the bundled demo model, which need nothing else.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/cpu/cpu_backend.h"
#include "formats/architectures.h"
#include "formats/json.h"
#include "formats/model_files.h"
#include "formats/quant_config.h"
#include "formats/quantize_checkpoint.h"
#include "formats/weights_io.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;
using test::TempFolder;

namespace {

// Quantizes `base` as the quantization_config of `golden` says.
void quantize_like(const std::string& base, const Json& golden, DType dtype, std::int64_t max_shard_bytes,
                   const std::string& output) {
  const Checkpoint source = Checkpoint::open(base);
  const std::optional<QuantConfig> wanted = quant_config_of(golden);
  REQUIRE(wanted);
  PlanOptions options;
  options.quant = wanted->spec;
  options.rest_dtype = dtype;
  options.tied_head = model_spec_of(source).tied_head;
  options.head_module = module_name(architecture_of(source.config()), Role::kHead, -1);
  for (const std::string& module : wanted->skip_modules)
    if (module != "lm_head") options.skip_modules.push_back(module);  // that one is skipped anyway
  const Plan plan = make_plan(source_tensors(source), options);
  AtomicFolder folder(output, false);
  StreamOptions stream;
  stream.threads = 2;
  stream.max_shard_bytes = max_shard_bytes;
  quantize_checkpoint(source, plan, *make_cpu_quantizer(), folder, stream);
  folder.write("config.json", to_python_json(output_config(source.config(), plan)));
  copy_model_files(base, folder);
  folder.commit();
}

// FNV-1a, 64 bits: to recognise bytes, not to guard them.
std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return hash;
}

}  // namespace

TEST_CASE("every golden made on CUDA, file by file") {
  if (!test::has_shared("golden")) return;
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::shared("golden"))) {
    const std::string name = entry.path().filename().string();
    const bool checkpoint = !name.starts_with("base_") && !name.starts_with("lora_") && entry.is_directory();
    if (!checkpoint || name.ends_with("_CPU")) continue;
    CAPTURE(name);
    ++folders;
    const Json golden = read_json_file(entry.path().string() + "/config.json");
    const std::string torch_name = golden.at("dtype").get<std::string>();
    const bool sharded = name.ends_with("_sharded");
    const TempFolder temporary;
    const std::string output = temporary / "out";
    // Folders are called <family>_<scheme>_<dtype>...; a family's name may have underscores itself.
    const std::string base = "base_" + golden.at("model_type").get<std::string>() + "_" + torch_name;
    quantize_like(test::shared("golden/" + base), golden, *dtype_from_name(torch_name),
                  sharded ? 60'000 : 50'000'000'000, output);
    for (const auto& file : std::filesystem::directory_iterator(entry.path())) {
      const std::string file_name = file.path().filename().string();
      if (file_name.starts_with("_") || file_name == "config.json") continue;
      CAPTURE(file_name);
      REQUIRE(std::filesystem::exists(output + "/" + file_name));
      CHECK((test::read_text(output + "/" + file_name) == test::read_text(file.path().string())));
    }
    // config.json is the same but for the skip list, which is written out so that every reader finds the same
    // modules.
    Json config = read_json_file(output + "/config.json");
    CHECK(config.at("quantization_config").at("llm_int8_skip_modules").is_array());
    config["quantization_config"]["llm_int8_skip_modules"] =
        golden.at("quantization_config").at("llm_int8_skip_modules");
    CHECK(to_python_json(config) == test::read_text(entry.path().string() + "/config.json"));
  }
  CHECK(folders == 29);
}

TEST_CASE("the bundled model, tensor by tensor") {
  // Lines: scheme, dtype, then name and hash of each tensor; see scripts/make_golden_hashes.
  const std::map<std::string, std::string> config_of_scheme{
      {"nf4-dq",
       R"({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true})"},
      {"nf4", R"({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"})"},
      {"fp4", R"({"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"})"},
      {"fp4-dq",
       R"({"load_in_4bit": true, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": true})"},
      {"int8", R"({"load_in_8bit": true})"}};
  std::map<std::string, int> schemes;
  std::ifstream lines(test::data("golden/demo_hashes.txt"));
  REQUIRE(lines);
  TempFolder temporary;
  std::optional<Checkpoint> written;
  std::size_t expected = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, second, third;
    words >> first >> second >> third;
    if (first.starts_with("#")) continue;
    if (first == "scheme") {
      if (written) CHECK(written->tensors().size() == expected);
      CAPTURE(second, third);
      Json golden;
      golden["quantization_config"] = parse_json(config_of_scheme.at(second), "golden");
      const std::string output = temporary / (second + third);
      quantize_like(test::data("demo"), golden, *dtype_from_name(third), 50'000'000'000, output);
      written = Checkpoint::open(output);
      expected = 0;
      ++schemes[second];
      continue;
    }
    CAPTURE(first);
    ++expected;
    REQUIRE(written->has(first));
    const Tensor tensor = written->read(first);
    CHECK(hash_of({reinterpret_cast<const char*>(tensor.data()), static_cast<std::size_t>(tensor.bytes())}) ==
          std::stoull(second, nullptr, 16));
  }
  CHECK(written->tensors().size() == expected);
  CHECK(schemes.size() == config_of_scheme.size());
}
