// Every family's sample: each tensor has a role, each role of the model a tensor.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/model/role_shape.h"
#include "formats/architectures.h"
#include "formats/tensor_names.h"
#include "formats/weights_io.h"
#include "test/support/family_config.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

using Key = std::tuple<Role, int, Piece, int>;
Key key_of(const TensorRole& role) { return {role.role, role.layer, role.piece, role.part}; }

// The folders with a config.json below `folder`, sorted.
std::vector<std::string> models_in(const std::string& folder, const std::string& prefix = "") {
  std::vector<std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (std::filesystem::exists(entry.path() / "config.json") &&
        entry.path().filename().string().starts_with(prefix))
      models.push_back(entry.path().string());
  std::sort(models.begin(), models.end());
  return models;
}

std::vector<std::string> all_samples() {
  std::vector<std::string> models = models_in(test::data("families"));
  models.push_back(test::data("demo"));
  if (test::has_shared("golden"))
    for (const std::string& model : models_in(test::shared("golden"), "base_")) models.push_back(model);
  return models;
}

}  // namespace

TEST_CASE("every tensor of every family has a role, and every role a tensor") {
  std::set<std::string> seen;
  for (const std::string& folder : all_samples()) {
    INFO(folder);
    const Checkpoint checkpoint = Checkpoint::open(folder);
    const ModelSpec spec = model_spec_of(checkpoint);
    seen.insert(spec.architecture);
    const Architecture& architecture = architecture_of(checkpoint.config());

    std::set<Key> wanted;
    for (const TensorRole& role : model_roles(spec)) {
      const std::int64_t heads =
          stored_by_head(architecture, role.role) ? role_shape(spec, role.role)[0] / spec.head_dim : 0;
      if (heads == 0) wanted.insert(key_of(role));
      for (int head = 0; head < heads; ++head)
        wanted.insert(key_of({role.role, role.layer, role.piece, head}));
    }
    for (const SourceTensor& source : source_tensors(checkpoint)) {
      if (source.role.role == Role::kIgnored) continue;
      INFO(source.name);
      CHECK(wanted.erase(key_of(source.role)) == 1);
      const std::string suffix = source.role.piece == Piece::kWeight ? ".weight" : ".bias";
      const std::string module =
          source.module.empty() ? source.name.substr(0, source.name.size() - suffix.size()) : source.module;
      CHECK(canonical_module(architecture, module) == module);
    }
    for (const Key& key : wanted)
      FAIL_CHECK("no tensor is the " << name_of(std::get<0>(key)) << " of layer " << std::get<1>(key));
  }
  for (const std::string& name : known_architectures()) {
    INFO(name);
    CHECK(seen.contains(name));
  }
}

namespace {

// What a plan is made of, without the names in the file.
std::map<std::string, SourceTensor> by_canonical_name(const Checkpoint& checkpoint) {
  std::map<std::string, SourceTensor> sources;
  for (SourceTensor& source : source_tensors(checkpoint)) {
    if (source.role.role == Role::kIgnored) continue;
    const std::string suffix = source.role.piece == Piece::kWeight ? ".weight" : ".bias";
    std::string name = source.module.empty() ? source.name : source.module + suffix;
    CHECK(sources.emplace(std::move(name), std::move(source)).second);
  }
  return sources;
}

}  // namespace

TEST_CASE("older layouts give the same tensors under today's names") {
  int compared = 0;
  for (const std::string& folder : models_in(test::data("layouts"))) {
    if (!std::filesystem::exists(folder + "/model.safetensors")) continue;
    INFO(folder);
    const std::string layout = std::filesystem::path(folder).filename().string();
    const Checkpoint older = Checkpoint::open(folder);
    const Checkpoint today = Checkpoint::open(test::data("families/" + layout.substr(0, layout.find('.'))));
    ModelSpec spec = model_spec_of(older);
    if (spec.alibi == Alibi::kBloom)
      spec.max_positions = model_spec_of(today).max_positions;  // seq_length, not saved today
    CHECK(spec == model_spec_of(today));
    const auto expected = by_canonical_name(today);
    const auto found = by_canonical_name(older);
    CHECK(found.size() == expected.size());
    for (const auto& [name, source] : expected) {
      INFO(name);
      REQUIRE(found.contains(name));
      const SourceTensor& same = found.at(name);
      CHECK(same.shape == source.shape);
      CHECK(same.dtype == source.dtype);
      CHECK(key_of(same.role) == key_of(source.role));
      CHECK(same.kind == source.kind);
    }
    for (const TensorRole& role : model_roles(model_spec_of(today))) {
      if (role.piece == Piece::kBias || is_linear(role.role)) continue;
      const Tensor a = make_weight_source(older, nullptr, nullptr)->dense(role.role, role.layer);
      const Tensor b = make_weight_source(today, nullptr, nullptr)->dense(role.role, role.layer);
      REQUIRE(a.shape() == b.shape());
      CHECK(std::equal(a.data(), a.data() + a.bytes(), b.data()));
    }
    ++compared;
  }
  CHECK(compared >= 5);
}

TEST_CASE("a multimodal checkpoint's language model, under its own names") {
  for (const char* sample : {"gemma3_multimodal", "mistral3_multimodal", "llava_multimodal"}) {
    INFO(sample);
    const Checkpoint checkpoint = Checkpoint::open(test::data("families/" + std::string(sample)));
    int language = 0, others = 0;
    for (const SourceTensor& source : source_tensors(checkpoint)) {
      INFO(source.name);
      if (source.role.role == Role::kIgnored) {
        ++others;
        CHECK(why_ignored(source.name) == "not part of the language model");
        CHECK(source.name.find("language_model") == std::string::npos);
      } else {
        ++language;
        CHECK((source.module.starts_with("model.") || source.module == "lm_head"));
      }
    }
    CHECK(language > 10);
    CHECK(others > 10);
  }
  const Architecture& gemma = architecture_of(test::family_config("gemma3_multimodal"));
  CHECK(canonical_module(gemma, "model.language_model.layers.1.mlp.up_proj") == "model.layers.1.mlp.up_proj");
  CHECK(canonical_module(gemma, "language_model.model.layers.1.mlp.up_proj") == "model.layers.1.mlp.up_proj");
  CHECK(canonical_module(gemma, "language_model.lm_head") == "lm_head");
  CHECK(canonical_module(gemma, "layers.1.mlp.up_proj") == "model.layers.1.mlp.up_proj");
  CHECK(!canonical_module(gemma, "vision_tower.layers.1.mlp.up_proj"));
  CHECK(!canonical_module(gemma, "model.model.layers.1.mlp.up_proj"));
}

TEST_CASE("numbers in names are layers, experts and heads") {
  const Architecture& mixtral = architecture_of(test::family_config("mixtral"));
  const auto role = role_of(mixtral, "model.layers.12.block_sparse_moe.experts.7.w2.weight");
  REQUIRE(role);
  CHECK(role->role == Role::kExpertDown);
  CHECK(role->layer == 12);
  CHECK(role->part == 7);
  CHECK(module_name(mixtral, Role::kExpertDown, 12, 7) == "model.layers.12.block_sparse_moe.experts.7.w2");
  CHECK(kind_of(mixtral, Role::kExpertDown) == ModuleKind::kOther);
  CHECK(kind_of(mixtral, Role::kQuery) == ModuleKind::kLinear);
  for (const char* name : {"model.layers.12.block_sparse_moe.experts.07.w2.weight",
                           "model.layers.12.block_sparse_moe.experts..w2.weight",
                           "model.layers.12.block_sparse_moe.experts.w2.weight",
                           "model.layers.12.block_sparse_moe.experts.7.w4.weight",
                           "model.layers.99999999999.block_sparse_moe.experts.7.w2.weight"})
    CHECK(!role_of(mixtral, name));
  const Architecture& gpt2 = architecture_of(test::family_config("gpt2"));
  CHECK(role_of(gpt2, "h.0.attn.bias")->role == Role::kIgnored);
  CHECK(role_of(gpt2, "transformer.h.0.attn.masked_bias")->role == Role::kIgnored);
  CHECK(role_of(gpt2, "h.0.attn.c_attn.bias")->role == Role::kQkv);
  CHECK(kind_of(gpt2, Role::kQkv) == ModuleKind::kConv1D);
  CHECK(why_ignored("h.0.attn.bias") == "a buffer that the model computes for itself");
}

TEST_CASE("bitsandbytes replaces the modules that their kinds say") {
  int compared = 0;
  for (const std::string& folder : models_in(test::data("families"))) {
    INFO(folder);
    const Checkpoint checkpoint = Checkpoint::open(folder);
    const Architecture& architecture = architecture_of(checkpoint.config());
    std::set<std::string> expected;
    const Json modules = read_json_file(folder + "/_modules.json");
    for (const Json& module : modules["quantized"]) {
      const auto name = canonical_module(architecture, module.get<std::string>());
      if (name) expected.insert(*name);  // not of a vision tower
    }
    std::set<std::string> found;
    for (const SourceTensor& source : source_tensors(checkpoint))
      if (source.role.piece == Piece::kWeight && is_linear(source.role.role) &&
          source.role.role != Role::kHead && source.kind != ModuleKind::kOther)
        found.insert(*canonical_module(architecture,
                                       source.name.substr(0, source.name.size() - sizeof(".weight") + 1)));
    CHECK(found == expected);
    ++compared;
  }
  CHECK(compared > 50);
}

// get_memory_footprint() of transformers 5.23's models, with all their buffers.
TEST_CASE("transformers' memory footprint of unquantized models") {
  const std::pair<const char*, std::int64_t> rows[] = {{"bloom", 57216},
                                                       {"cohere_qk_norm", 40736},
                                                       {"falcon_rw", 71312},
                                                       {"gemma2", 66930},
                                                       {"gemma3_text", 67122},
                                                       {"glm", 52952},
                                                       {"gpt2", 36672},
                                                       {"gpt_bigcode", 28552},
                                                       {"gpt_neo", 68992},
                                                       {"gpt_neox", 44528},
                                                       {"gptj", 56944},
                                                       {"mistral", 52592},
                                                       {"mixtral", 71648},
                                                       {"mpt", 55616},
                                                       {"olmo3", 63776},
                                                       {"opt_post_norm", 40640},
                                                       {"phi3", 46432},
                                                       {"qwen2_moe", 87520},
                                                       {"qwen2_yarn_tied", 38432},
                                                       {"qwen3_moe_window", 82976},
                                                       {"smollm3", 57312},
                                                       {"stablelm_parallel", 79224}};
  for (const auto& [sample, bytes] : rows) {
    INFO(sample);
    const Checkpoint checkpoint = Checkpoint::open(test::data("families/" + std::string(sample)));
    const ModelSpec spec = model_spec_of(checkpoint);
    CHECK(stored_plan(checkpoint).hf_memory_footprint(transformers_buffer_bytes(spec)) == bytes);
  }
}
