// Every family quantized as transformers + bitsandbytes quantize it: which modules, in which layout, under
// which names, byte for byte. The hashes of what they wrote are beside the models
// (test/data/families/README.md).
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/convert.h"
#include "core/cpu/cpu_backend.h"
#include "core/error.h"
#include "core/quant/quantizer.h"
#include "core/sha256.h"
#include "formats/architectures.h"
#include "formats/json.h"
#include "formats/model_files.h"
#include "formats/quant_config.h"
#include "formats/quantize_checkpoint.h"
#include "formats/weights_io.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;
namespace fs = std::filesystem;

namespace {

Plan nf4_plan(const Checkpoint& source, bool all_linears = false) {
  const ModelSpec spec = model_spec_of(source);
  PlanOptions options;
  options.quant.method = QuantMethod::kBlock4;
  options.quant.compute_dtype = DType::kF32;
  options.rest_dtype = spec.dtype;
  options.all_linears = all_linears;
  options.tied_head = spec.tied_head;
  options.head_module = module_name(architecture_of(source.config()), Role::kHead, -1);
  return make_plan(source_tensors(source), options);
}

void write(const Checkpoint& source, const Plan& plan, const std::string& output) {
  AtomicFolder folder(output, false);
  StreamOptions stream;
  stream.threads = 2;
  quantize_checkpoint(source, plan, *make_cpu_quantizer(), folder, stream);
  folder.write("config.json", to_python_json(output_config(source.config(), plan)));
  copy_model_files(source.folder(), folder);
  folder.commit();
}

std::string hash_of_file(const std::string& path) {
  Sha256 hash;
  hash.update(test::read_text(path));
  return hash.hex_digest();
}

std::set<std::string> quantized_modules(const Plan& plan) {
  std::set<std::string> modules;
  for (const PlanEntry& entry : plan.entries)
    if (entry.quantized) modules.insert(entry.module);
  return modules;
}

std::string family(const std::string& name) { return test::data("families/" + name); }

bool is_multimodal(const std::string& folder) {
  const Json config = read_json_file(folder + "/config.json");
  return language_config(config) != config;
}

}  // namespace

TEST_CASE("every family as bitsandbytes writes it") {
  int folders = 0;
  for (const auto& entry : fs::directory_iterator(test::data("families"))) {
    const std::string folder = entry.path().string();
    if (!exists(folder + "/_nf4.json") || is_multimodal(folder)) continue;
    INFO(folder);
    ++folders;
    const Json expected = read_json_file(folder + "/_nf4.json");
    const Checkpoint source = Checkpoint::open(folder);
    const Plan plan = nf4_plan(source);
    const test::TempFolder temporary;
    const std::string output = temporary / "out";
    write(source, plan, output);

    const Checkpoint written = Checkpoint::open(output);
    for (const auto& [name, tensor] : expected.at("tensors").items()) {
      INFO(name);
      REQUIRE(written.has(name));
      CHECK(info(written.at(name).info.dtype).name == tensor[0].get<std::string>());
      CHECK(Json(written.at(name).info.shape) == tensor[1]);
    }
    CHECK(written.tensors().size() == expected.at("tensors").size());
    for (const auto& [name, hash] : expected.at("files").items()) {
      INFO(name);
      if (name != "config.json") CHECK(hash_of_file(output + "/" + name) == hash.get<std::string>());
    }
    // config.json is the same but for the list of what was not quantized, which is written out.
    Json config = written.config();
    config["quantization_config"]["llm_int8_skip_modules"] = nullptr;
    CHECK(config.at("quantization_config") == expected.at("quantization_config"));
    config.erase("quantization_config");
    CHECK(config == source.config());
    // What was written is a model again, the same one.
    CHECK(model_spec_of(written).layers == model_spec_of(source).layers);
  }
  CHECK(folders >= 48);
}

TEST_CASE("old layouts become what transformers writes today") {
  for (const auto& [layout, name] :
       {std::pair("bloom.no_prefix", "bloom"), std::pair("gpt2.no_prefix_strays", "gpt2"),
        std::pair("opt.no_prefix", "opt"), std::pair("gpt_neox.strays", "gpt_neox"),
        std::pair("mistral.inv_freq", "mistral"), std::pair("gpt2.bin", "gpt2"), std::pair("opt.bin", "opt"),
        std::pair("opt.bin_shards", "opt")}) {
    INFO(layout);
    const Checkpoint source = Checkpoint::open(test::data(std::string("layouts/") + layout));
    const test::TempFolder temporary;
    write(source, nf4_plan(source), temporary / "out");
    const Json expected = read_json_file(family(name) + "/_nf4.json");
    CHECK(hash_of_file(temporary / "out/model.safetensors") ==
          expected.at("files").at("model.safetensors").get<std::string>());
  }
}

TEST_CASE("pickles that are more than tensors are refused") {
  const test::TempFolder folder;
  test::write_text(folder / "config.json", test::read_text(family("gpt2") + "/config.json"));
  for (const auto& [name, words] :
       {std::pair("os_system", "system"), std::pair("eval", "eval"), std::pair("sparse", "sparse"),
        std::pair("whole_module", "refuses"), std::pair("legacy", "torch before 1.6")}) {
    fs::copy_file(test::data(std::string("layouts/refused/") + name + ".bin"), folder / "pytorch_model.bin",
                  fs::copy_options::overwrite_existing);
    INFO(name);
    try {
      Checkpoint::open(folder.path());
      FAIL("opened");
    } catch (const Error& error) {
      INFO(error.what());
      CHECK(error.code() == (std::string(name) == "legacy" ? ExitCode::kUnsupported : ExitCode::kMalformed));
      CHECK(std::string(error.what()).find(words) != std::string::npos);
    }
  }
}

TEST_CASE("of a multimodal model the language model is written") {
  const Checkpoint source = Checkpoint::open(family("gemma3_multimodal"));
  const Plan plan = nf4_plan(source);
  const test::TempFolder temporary;
  write(source, plan, temporary / "out");
  const Checkpoint written = Checkpoint::open(temporary / "out");
  CHECK(written.config().at("architectures") == Json{"Gemma3ForCausalLM"});
  CHECK(!written.config().contains("vision_config"));
  CHECK(written.has("model.layers.0.self_attn.q_proj.weight.absmax"));
  const Json expected = read_json_file(family("gemma3_multimodal") + "/_nf4.json").at("tensors");
  for (const auto& [name, stored] : written.tensors()) {
    INFO(name);
    const std::string whole =
        "language_" + name;  // language_model.layers... is "language_model.model.layers..."
    const std::string in_whole = "language_model." + name;
    REQUIRE((expected.contains(in_whole) || expected.contains(whole)));
  }
}

TEST_CASE("asked to, quantize takes experts and Falcon's layers, not routers") {
  for (const char* name : {"mixtral", "qwen2_moe", "qwen3_moe", "falcon_7b", "falcon_40b"}) {
    INFO(name);
    const Checkpoint source = Checkpoint::open(family(name));
    const Plan today = nf4_plan(source), all = nf4_plan(source, true);
    CHECK(today.unreplaced_bytes() > 0);
    CHECK(all.unreplaced_bytes() == 0);
    CHECK(quantized_modules(all).size() > quantized_modules(today).size());
    for (const PlanEntry& entry : all.entries) {
      INFO(entry.module);
      const bool product = is_linear(entry.source.role.role) && entry.source.role.piece == Piece::kWeight;
      const Role role = entry.source.role.role;
      CHECK(entry.quantized == (product && role != Role::kRouter && role != Role::kHead));
    }
    const test::TempFolder temporary;
    write(source, all, temporary / "out");
    CHECK(model_spec_of(Checkpoint::open(temporary / "out")).layers > 0);
  }
}

TEST_CASE("a Conv1D keeps its stored layout through quantizing and back") {
  const Checkpoint source = Checkpoint::open(family("gpt2"));
  const test::TempFolder temporary;
  write(source, nf4_plan(source), temporary / "nf4");
  const Checkpoint quantized = Checkpoint::open(temporary / "nf4");
  PlanOptions options;
  options.rest_dtype = model_spec_of(source).dtype;
  options.tied_head = true;
  const Plan back = make_plan(source_tensors(quantized), options);
  write(quantized, back, temporary / "back");
  const Checkpoint dense = Checkpoint::open(temporary / "back");
  for (const auto& [name, tensor] : source.tensors()) {
    INFO(name);
    REQUIRE(dense.has(name));
    CHECK(dense.at(name).info.shape == tensor.info.shape);
  }
  // The values are those of the quantized weight, transposed.
  const std::string module = "transformer.h.0.attn.c_attn";
  const Tensor expected =
      transposed(dequantize(read_weight(quantized, module, 6.0f), options.rest_dtype).view());
  const Tensor found = dense.read(module + ".weight");
  REQUIRE(found.bytes() == expected.bytes());
  CHECK(std::equal(found.data(), found.data() + found.bytes(), expected.data()));
}
