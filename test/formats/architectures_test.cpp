#include "formats/architectures.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/model/role_shape.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

// A sound config.json, with `changes` over it; a null value removes the key.
Json config_with(const std::string& changes = "{}") {
  Json config = parse_json(test::config_of({}), "config.json");
  const Json over = parse_json(changes, "changes");
  for (const auto& [key, value] : over.items()) {
    if (value.is_null())
      config.erase(key);
    else
      config[key] = value;
  }
  return config;
}

ExitCode outcome(const std::string& changes, std::string* message = nullptr) {
  try {
    model_spec_of(config_with(changes));
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.code();
  }
  return ExitCode::kOk;
}

ExitCode outcome_of(const std::string& folder, std::string* message = nullptr) {
  try {
    model_spec_of(Checkpoint::open(folder));
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.code();
  }
  return ExitCode::kOk;
}

RopeSpec rope_with(const std::string& changes) { return model_spec_of(config_with(changes)).rope; }

}  // namespace

TEST_CASE("the model of a config.json") {
  const ModelSpec spec = model_spec_of(config_with());
  CHECK(spec.architecture == "LlamaForCausalLM");
  CHECK(spec.model_type == "llama");
  CHECK(spec.vocab_size == 96);
  CHECK(spec.hidden_size == 64);
  CHECK(spec.intermediate_size == 160);
  CHECK(spec.layers == 2);
  CHECK(spec.heads == 4);
  CHECK(spec.kv_heads == 2);
  CHECK(spec.head_dim == 16);
  CHECK(spec.max_positions == 64);
  CHECK(spec.norm_eps == 1e-5);
  CHECK(spec.activation == Activation::kSilu);
  CHECK(!spec.qkv_bias);
  CHECK(!spec.attention_output_bias);
  CHECK(!spec.mlp_bias);
  CHECK(!spec.tied_head);
  CHECK(spec.dtype == DType::kBF16);
  CHECK(spec.eos_ids == std::vector<std::int64_t>{2});
  CHECK(spec.bos_id == 1);
  CHECK(spec.rope.type == RopeType::kDefault);
  CHECK(spec.rope.theta == 10000.0);
  CHECK(spec.rope.rotary_dim == 16);
}

TEST_CASE("switches and spellings") {
  const ModelSpec biased = model_spec_of(config_with(R"({"attention_bias": true, "mlp_bias": true})"));
  CHECK(biased.qkv_bias);
  CHECK(biased.attention_output_bias);
  CHECK(biased.mlp_bias);
  CHECK(model_spec_of(config_with(R"({"dtype": null, "torch_dtype": "float16"})")).dtype == DType::kF16);
  CHECK(model_spec_of(config_with(R"({"dtype": null})")).dtype == DType::kF32);
  CHECK(model_spec_of(config_with(R"({"head_dim": 32})")).head_dim == 32);
  CHECK(model_spec_of(config_with(R"({"head_dim": null})")).head_dim == 16);
  CHECK(model_spec_of(config_with(R"({"num_key_value_heads": null})")).kv_heads == 4);
  CHECK(model_spec_of(config_with(R"({"tie_word_embeddings": null})")).tied_head == false);
  CHECK(model_spec_of(config_with(R"({"rms_norm_eps": null})")).norm_eps == 1e-6);
  CHECK(model_spec_of(config_with(R"({"max_position_embeddings": null})")).max_positions == 2048);
  CHECK(model_spec_of(config_with(R"({"hidden_act": "swish"})")).activation == Activation::kSilu);
  CHECK(model_spec_of(config_with(R"({"hidden_act": "gelu"})")).activation == Activation::kGeluErf);
  CHECK(model_spec_of(config_with(R"({"hidden_act": "gelu_pytorch_tanh"})")).activation ==
        Activation::kGeluTanh);
  CHECK(model_spec_of(config_with(R"({"eos_token_id": [128001, 128009]})")).eos_ids ==
        std::vector<std::int64_t>{128001, 128009});
  CHECK(model_spec_of(config_with(R"({"eos_token_id": null})")).eos_ids == std::vector<std::int64_t>{2});
}

TEST_CASE("which row a config.json means") {
  CHECK(known_architectures().front() == "LlamaForCausalLM");
  CHECK(outcome(R"({"architectures": null})") == ExitCode::kOk);
  CHECK(outcome(R"({"model_type": null})") == ExitCode::kOk);
  CHECK(outcome(R"({"architectures": ["LLaMAForCausalLM"]})") == ExitCode::kOk);
  std::string message;
  CHECK(outcome(R"({"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text"})", &message) ==
        ExitCode::kUnsupported);
  CHECK(message.find("Llama4ForCausalLM") != std::string::npos);
  CHECK(message.find("knows LlamaForCausalLM, MistralForCausalLM, ") != std::string::npos);
  CHECK(outcome(R"({"model_type": "mistral"})") == ExitCode::kUnsupported);  // of the class for Llama
  CHECK(outcome(R"({"architectures": ["MistralForCausalLM"], "model_type": "mistral"})") == ExitCode::kOk);
  CHECK(outcome(R"({"architectures": ["LlamaForSequenceClassification"]})") == ExitCode::kUnsupported);
  CHECK(outcome(R"({"architectures": null, "model_type": null})") == ExitCode::kMalformed);
  CHECK(outcome(R"({"architectures": "LlamaForCausalLM"})") == ExitCode::kMalformed);
  CHECK(outcome(R"({"architectures": [1]})") == ExitCode::kMalformed);
}

TEST_CASE("values that cannot be are refused") {
  constexpr ExitCode kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  const std::pair<const char*, ExitCode> cases[] = {
      {R"({"hidden_size": null})", kBad},
      {R"({"hidden_size": 0})", kBad},
      {R"({"hidden_size": -64})", kBad},
      {R"({"hidden_size": "big"})", kBad},
      {R"({"hidden_size": 64.0})", kBad},
      {R"({"hidden_size": 9223372036854775807})", kBad},
      {R"({"vocab_size": 0})", kBad},
      {R"({"intermediate_size": null})", kBad},
      {R"({"num_hidden_layers": 0})", kBad},
      {R"({"num_hidden_layers": 100000000})", kBad},
      {R"({"num_attention_heads": 0})", kBad},
      {R"({"num_key_value_heads": 3})", kBad},
      {R"({"num_key_value_heads": 8})", kBad},
      {R"({"head_dim": null, "num_attention_heads": 6, "num_key_value_heads": 2})", kBad},
      {R"({"head_dim": 15})", kBad},
      {R"({"head_dim": 1000000000000})", kBad},
      {R"({"max_position_embeddings": 0})", kBad},
      {R"({"rms_norm_eps": -1e-5})", kBad},
      {R"({"rms_norm_eps": 2})", kBad},
      {R"({"tie_word_embeddings": "yes"})", kBad},
      {R"({"attention_bias": 1})", kBad},
      {R"({"eos_token_id": "</s>"})", kBad},
      {R"({"eos_token_id": [1, null]})", kBad},
      {R"({"hidden_act": "xielu"})", kUnknown},
      {R"({"dtype": "float8_e4m3fn"})", kUnknown},
      {R"({"dtype": "int8"})", kUnknown},
      {R"({"dtype": 16})", kBad},
      {R"({"partial_rotary_factor": 0.5})", kUnknown},
      {R"({"rope_parameters": {"rope_type": "mrope"}})", kUnknown},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})", kUnknown},
      {R"({"rope_parameters": "default"})", kBad},
      {R"({"rope_parameters": {"rope_type": "default", "rope_theta": 0}})", kBad},
      {R"({"rope_parameters": {"rope_type": "linear"}})", kBad},
      {R"({"rope_parameters": {"rope_type": "linear", "factor": -2.0}})", kBad},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}})", kBad},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}})",
       kBad},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}})",
       kBad},
      {R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1]}})",
       kBad},
      {R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1,1,1,1,1,1,1,1]}})", kBad},
      {R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1,1,1,1,1,1,1,0], "long_factor": [1,1,1,1,1,1,1,1]}})",
       kBad},
  };
  for (const auto& [changes, expected] : cases) {
    INFO(changes);
    std::string message;
    CHECK(outcome(changes, &message) == expected);
    CHECK(message.find("config.json") == 0);
  }
}

TEST_CASE("rope in the spellings of transformers 4 and 5") {
  CHECK(rope_with(R"({"rope_parameters": null})").theta == 10000.0);
  CHECK(rope_with(R"({"rope_parameters": null, "rope_theta": 500000.0, "rope_scaling": null})").theta ==
        500000.0);
  CHECK(rope_with(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}})").theta == 1e6);
  CHECK(rope_with(R"({"rope_parameters": {"rope_type": "default"}, "rope_theta": 7000})").theta == 7000.0);

  const RopeSpec linear =
      rope_with(R"({"rope_parameters": null, "rope_scaling": {"type": "linear", "factor": 2}})");
  CHECK(linear.type == RopeType::kLinear);
  CHECK(linear.factor == 2.0);
  CHECK(linear.original_max_positions == 64);

  const RopeSpec dynamic = rope_with(R"({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}})");
  CHECK(dynamic.type == RopeType::kDynamic);
  CHECK(dynamic.factor == 4.0);

  const RopeSpec llama3 = rope_with(R"({"rope_parameters": null, "rope_theta": 500000.0, "rope_scaling":
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 32}})");
  CHECK(llama3.type == RopeType::kLlama3);
  CHECK(llama3.theta == 500000.0);
  CHECK(llama3.low_freq_factor == 1.0);
  CHECK(llama3.high_freq_factor == 4.0);
  CHECK(llama3.original_max_positions == 32);

  const RopeSpec yarn = rope_with(R"({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16,
    "truncate": false, "mscale": 0.7, "mscale_all_dim": 0, "original_max_position_embeddings": 16}})");
  CHECK(yarn.type == RopeType::kYarn);
  CHECK(yarn.factor == 4.0);
  CHECK(yarn.beta_fast == 16.0);
  CHECK(yarn.beta_slow == 1.0);
  CHECK(!yarn.truncate);
  CHECK(yarn.mscale == 0.7);
  CHECK(!yarn.mscale_all_dim);
  CHECK(!yarn.attention_factor);
  CHECK(yarn.original_max_positions == 16);
  CHECK(rope_with(R"({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 16}})")
            .factor == 4.0);

  const RopeSpec longrope =
      rope_with(R"({"rope_parameters": {"type": "su", "short_factor": [1,1,1,1,1,1,1,1.5],
    "long_factor": [1,2,3,4,5,6,7,8]}, "original_max_position_embeddings": 32})");
  CHECK(longrope.type == RopeType::kLongRope);
  CHECK(longrope.original_max_positions == 32);
  CHECK(longrope.factor == 2.0);
  CHECK(longrope.short_factor.back() == 1.5);
  CHECK(longrope.long_factor.back() == 8.0);
}

TEST_CASE("names and roles are each other's inverse") {
  const Architecture& llama = architecture_of(config_with());
  std::set<std::string> names;
  for (const TensorRole& role : model_roles(model_spec_of(config_with()))) {
    for (const int layer : {0, 7, 123}) {
      const std::string name = module_name(llama, role.role, layer);
      names.insert(name);
      for (const auto& [suffix, piece] :
           {std::pair(".weight", Piece::kWeight), std::pair(".bias", Piece::kBias)}) {
        const auto found = role_of(llama, name + suffix);
        REQUIRE(found);
        CHECK(found->role == role.role);
        CHECK(found->piece == piece);
        CHECK(found->part == -1);
        CHECK((found->layer == layer || found->layer == -1));
      }
    }
  }
  CHECK(names.size() == 9 * 3 + 3);
  CHECK(role_of(llama, "model.layers.3.self_attn.rotary_emb.inv_freq")->role == Role::kIgnored);
  for (const char* name :
       {"model.layers.x.mlp.up_proj.weight", "model.layers.01.mlp.up_proj.weight",
        "model.layers.-1.mlp.up_proj.weight", "model.layers..mlp.up_proj.weight",
        "model.layers.99999999999.mlp.up_proj.weight", "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.up_proj.weight.absmax", "xmodel.norm.weight", "weight", ".weight", ""})
    CHECK(!role_of(llama, name));
}

TEST_CASE("tensors must have the shapes that config.json promises") {
  const test::TempFolder folder;
  using Tied = test::TinyLlama::Tied;
  std::string message;
  int number = 0;
  const auto make = [&](const test::TinyLlama& model) {
    return test::make_checkpoint(model, folder / std::to_string(number++));
  };
  CHECK(outcome_of(make({})) == ExitCode::kOk);
  CHECK(outcome_of(make({.attention_bias = true, .mlp_bias = true})) == ExitCode::kOk);
  CHECK(outcome_of(make({.version4 = true})) == ExitCode::kOk);
  for (const Tied tied : {Tied::kEmbedding, Tied::kHead, Tied::kBoth}) {
    const ModelSpec spec = model_spec_of(Checkpoint::open(make({.tied = tied})));
    CHECK(spec.tied_head);
  }
  const auto with = [&](const test::TinyLlama& tensors, const test::TinyLlama& config) {
    const std::string path = make(tensors);
    test::write_text(path + "/config.json", test::config_of(config));
    return outcome_of(path, &message);
  };
  CHECK(with({}, {.hidden = 128, .head_dim = 32}) == ExitCode::kMalformed);
  CHECK(with({}, {.vocab = 97}) == ExitCode::kMalformed);
  CHECK(message.find("has shape [96, 64], but by config.json it is [97, 64]") != std::string::npos);
  CHECK(with({}, {.layers = 3}) == ExitCode::kMalformed);
  CHECK(message.find("model.layers.2.") != std::string::npos);
  CHECK(with({}, {.kv_heads = 4}) == ExitCode::kMalformed);
  CHECK(with({}, {.attention_bias = true}) == ExitCode::kMalformed);
  CHECK(with({.mlp_bias = true}, {}) == ExitCode::kMalformed);
  CHECK(message.find("no bias") != std::string::npos);
  CHECK(with({.tied = Tied::kEmbedding}, {}) == ExitCode::kMalformed);
  CHECK(message.find("lm_head.weight") != std::string::npos);
}

TEST_CASE("one tensor under two names is refused") {
  const test::TempFolder folder;
  std::vector<test::RawTensor> tensors = test::tensors_of({});
  for (test::RawTensor tensor : test::tensors_of({}))
    if (tensor.name == "model.norm.weight") {
      tensor.name = "norm.weight";
      tensors.push_back(tensor);
    }
  test::write_text(folder / "config.json", test::config_of({}));
  test::write_safetensors(folder / "model.safetensors", tensors);
  std::string message;
  CHECK(outcome_of(folder.path(), &message) == ExitCode::kMalformed);
  CHECK(message.find("'model.norm' and 'norm' are two names of the same module") != std::string::npos);
}

TEST_CASE("a pair that is stored twice with different values is not tied") {
  const test::TempFolder folder;
  test::make_checkpoint({}, folder.path());
  test::write_text(folder / "config.json", test::config_of({.tied = test::TinyLlama::Tied::kBoth}));
  CHECK(!model_spec_of(Checkpoint::open(folder.path())).tied_head);
}

TEST_CASE("the dtype that config.json leaves out is that of the embedding") {
  const test::TempFolder folder;
  test::make_checkpoint({.dtype = DType::kF16}, folder.path());
  std::string config = test::config_of({});
  config.replace(config.find("\"dtype\""), 7, "\"ignored\"");
  test::write_text(folder / "config.json", config);
  CHECK(model_spec_of(Checkpoint::open(folder.path())).dtype == DType::kF16);
}

TEST_CASE("generation_config.json has the last word on special tokens") {
  const test::TempFolder folder;
  test::make_checkpoint({}, folder.path());
  const auto eos = [&] { return model_spec_of(Checkpoint::open(folder.path())).eos_ids; };
  CHECK(eos() == std::vector<std::int64_t>{2});
  test::write_text(folder / "generation_config.json", R"({"eos_token_id": [7, 8], "bos_token_id": 5})");
  CHECK(eos() == std::vector<std::int64_t>{7, 8});
  CHECK(model_spec_of(Checkpoint::open(folder.path())).bos_id == 5);
  test::write_text(folder / "generation_config.json", R"({"eos_token_id": 9})");
  CHECK(eos() == std::vector<std::int64_t>{9});
  test::write_text(folder / "generation_config.json", "{}");
  CHECK(eos() == std::vector<std::int64_t>{2});
  test::write_text(folder / "generation_config.json", R"({"eos_token_id": "x"})");
  CHECK_THROWS_AS(eos(), Error);
}

TEST_CASE("real Llama checkpoints have the models that their pages describe") {
  struct Row {
    const char* folder;
    std::int64_t hidden, intermediate;
    int layers, heads, kv_heads, head_dim;
    bool tied;
    DType dtype;
  };
  const Row rows[] = {
      {"models/demo", 256, 704, 6, 4, 2, 64, true, DType::kBF16},
      {"models/demo-nf4dq", 256, 704, 6, 4, 2, 64, true, DType::kF32},
      {"models/demo-int8", 256, 704, 6, 4, 2, 64, true, DType::kF16},
      {"models/eval", 512, 1408, 8, 8, 4, 64, true, DType::kBF16},
      {"models/tinystories-656k", 128, 384, 2, 8, 4, 16, true, DType::kF32},
      {"models/stories260k", 64, 172, 5, 8, 4, 8, true, DType::kF32},
      {"golden/base_llama_bfloat16", 128, 352, 2, 4, 2, 32, false, DType::kBF16},
      {"golden/base_llama_tied_bfloat16", 64, 160, 1, 4, 4, 16, true, DType::kBF16},
      {"golden/llama_nf4dq_float16", 128, 352, 2, 4, 2, 32, false, DType::kF16},
      {"golden/llama_int8_float32", 128, 352, 2, 4, 2, 32, false, DType::kF32},
  };
  if (!test::has_shared("golden") || !test::has_shared("models")) return;
  for (const Row& row : rows) {
    INFO(row.folder);
    const ModelSpec spec = model_spec_of(Checkpoint::open(test::shared(row.folder)));
    CHECK(spec.hidden_size == row.hidden);
    CHECK(spec.intermediate_size == row.intermediate);
    CHECK(spec.layers == row.layers);
    CHECK(spec.heads == row.heads);
    CHECK(spec.kv_heads == row.kv_heads);
    CHECK(spec.head_dim == row.head_dim);
    CHECK(spec.tied_head == row.tied);
    CHECK(spec.dtype == row.dtype);
  }
}
