#include "formats/weights_io.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/reference_quantizer.h"
#include "formats/architectures.h"
#include "formats/quant_config.h"
#include "test/support/make_checkpoint.h"
#include "test/support/paths.h"

using namespace qtool;
namespace fs = std::filesystem;

namespace {

constexpr const char* kQuery = "model.layers.0.self_attn.q_proj";

std::string bytes_of(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.data), static_cast<std::size_t>(view.bytes())};
}

test::RawTensor raw_of(const NamedTensor& tensor) {
  return {tensor.name, std::string(info(tensor.view.dtype).name), tensor.view.shape, bytes_of(tensor.view)};
}

QuantSpec spec_of(QuantMethod method, Code4 code = Code4::kNf4, bool nested = false,
                  DType storage = DType::kU8) {
  QuantSpec spec;
  spec.method = method;
  spec.code = code;
  spec.nested = nested;
  spec.storage = storage;
  return spec;
}

// The tensors of `model` quantized under `spec`, in the pieces that are stored.
std::vector<test::RawTensor> quantized(const test::TinyLlama& model, const QuantSpec& spec) {
  const ReferenceQuantizer quantizer;
  std::vector<test::RawTensor> out;
  for (test::RawTensor& raw : test::tensors_of(model)) {
    if (raw.name.find("_proj.weight") == std::string::npos) {
      out.push_back(std::move(raw));
      continue;
    }
    const TensorView view{reinterpret_cast<const std::byte*>(raw.bytes.data()), model.dtype, raw.shape};
    const Weight weight = quantize(quantizer, view, spec);
    for (const NamedTensor& part : named_parts(raw.name.substr(0, raw.name.size() - 7), weight))
      out.push_back(raw_of(part));
  }
  return out;
}

void write_quantized(const std::string& folder, const test::TinyLlama& model, const QuantSpec& spec,
                     std::vector<test::RawTensor> tensors, int shards) {
  fs::create_directories(folder);
  Json config = parse_json(test::config_of(model), "config");
  config["quantization_config"] = quant_config_json(spec, {"lm_head"});
  test::write_text(folder + "/config.json", to_python_json(config));
  test::write_shards(folder, tensors, shards);
}

// What reading `kQuery` from a folder of these tensors fails with.
std::string failure(const std::vector<test::RawTensor>& tensors, ExitCode expected) {
  static const test::TempFolder folder;
  test::write_text(folder / "config.json", "{}");
  test::write_safetensors(folder / "model.safetensors", tensors);
  try {
    read_weight(Checkpoint::open(folder.path()), kQuery, 6.0f);
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == expected);
    CHECK(std::string(error.what()).find(kQuery) != std::string::npos);
    return error.what();
  }
  FAIL("read");
  return {};
}

using Tensors = std::vector<test::RawTensor>;

Tensors pieces_of(const QuantSpec& spec) {
  Tensors all = quantized({.layers = 1}, spec);
  Tensors out;
  for (const test::RawTensor& tensor : all)
    if (tensor.name.find(kQuery) == 0) out.push_back(tensor);
  return out;
}

test::RawTensor& piece(Tensors& tensors, const std::string& suffix) {
  for (test::RawTensor& tensor : tensors)
    if (tensor.name == kQuery + suffix) return tensor;
  FAIL("no piece " << suffix);
  return tensors.front();
}

Tensors without(Tensors tensors, const std::string& suffix) {
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(),
                               [&](const auto& tensor) { return tensor.name == kQuery + suffix; }),
                tensors.end());
  return tensors;
}

// The pieces with another quant_state: `from` replaced by `to` in its text.
Tensors with_state(Tensors tensors, const std::string& from, const std::string& to) {
  test::RawTensor& state = piece(tensors, ".weight.quant_state.bitsandbytes__nf4");
  const auto at = state.bytes.find(from);
  REQUIRE(at != std::string::npos);
  state.bytes.replace(at, from.size(), to);
  state.shape = {static_cast<std::int64_t>(state.bytes.size())};
  return tensors;
}

bool says(const std::string& message, const std::string& words) {
  return message.find(words) != std::string::npos;
}

const QuantSpec kSchemes[] = {spec_of(QuantMethod::kBlock4),
                              spec_of(QuantMethod::kBlock4, Code4::kNf4, true),
                              spec_of(QuantMethod::kBlock4, Code4::kFp4),
                              spec_of(QuantMethod::kBlock4, Code4::kFp4, true),
                              spec_of(QuantMethod::kInt8),
                              spec_of(QuantMethod::kBlock4, Code4::kNf4, true, DType::kBF16),
                              spec_of(QuantMethod::kBlock4, Code4::kFp4, false, DType::kF32)};

}  // namespace

TEST_CASE("weights come back from the pieces they were filed in, also across shards") {
  const test::TempFolder folder;
  int number = 0;
  for (const QuantSpec& spec : kSchemes)
    for (const int shards : {1, 7}) {
      const test::TinyLlama model{.attention_bias = true};
      const Tensors tensors = quantized(model, spec);
      const std::string path = folder / std::to_string(number++);
      write_quantized(path, model, spec, tensors, shards);
      const Checkpoint checkpoint = Checkpoint::open(path);
      CHECK(checkpoint.tensors().size() == tensors.size());
      Tensors again;
      for (const SourceTensor& source : source_tensors(checkpoint)) {
        const std::string module = source.name.substr(0, source.name.rfind('.'));
        if (!is_linear(source.role.role) || source.role.piece == Piece::kBias ||
            source.role.role == Role::kHead)
          continue;
        const Weight weight = read_weight(checkpoint, module, 6.0f);
        for (const NamedTensor& part : named_parts(module, weight)) again.push_back(raw_of(part));
      }
      std::size_t compared = 0;
      for (const test::RawTensor& tensor : tensors) {
        for (const test::RawTensor& read : again) {
          if (read.name != tensor.name) continue;
          CHECK(read.dtype == tensor.dtype);
          CHECK(read.shape == tensor.shape);
          CHECK(read.bytes == tensor.bytes);
          ++compared;
        }
      }
      CHECK(compared == again.size());
      CHECK(compared >= 14 * 3);
    }
}

TEST_CASE("logical shapes and dtypes show through every scheme") {
  const test::TempFolder folder;
  int number = 0;
  const test::TinyLlama model{.dtype = DType::kF16, .attention_bias = true};
  const Checkpoint plain = Checkpoint::open(test::make_checkpoint(model, folder / "plain"));
  const std::vector<SourceTensor> expected = source_tensors(plain);
  for (const QuantSpec& spec : kSchemes) {
    const std::string path = folder / std::to_string(number++);
    write_quantized(path, model, spec, quantized(model, spec), 3);
    const std::vector<SourceTensor> sources = source_tensors(Checkpoint::open(path));
    REQUIRE(sources.size() == expected.size());
    for (std::size_t i = 0; i < sources.size(); ++i) {
      CHECK(sources[i].name == expected[i].name);
      CHECK(sources[i].shape == expected[i].shape);
      CHECK(sources[i].dtype == expected[i].dtype);
    }
  }
}

TEST_CASE("a stored plan has the bytes of the files") {
  const test::TempFolder folder;
  int number = 0;
  for (const QuantSpec& spec : kSchemes) {
    const test::TinyLlama model;
    const std::string path = folder / std::to_string(number++);
    write_quantized(path, model, spec, quantized(model, spec), 1);
    const Checkpoint checkpoint = Checkpoint::open(path);
    const Plan stored = stored_plan(checkpoint);
    CHECK(stored.bytes() == checkpoint.bytes());
    PlanOptions options;
    options.quant = spec;
    const Plan planned =
        make_plan(source_tensors(Checkpoint::open(test::make_checkpoint(model, folder / "plain"))), options);
    CHECK(stored.hf_memory_footprint(0) == planned.hf_memory_footprint(0));
    CHECK(stored.parameters() == planned.parameters());
  }
}

TEST_CASE("missing and contradictory pieces of a 4-bit weight are named") {
  const Tensors nested = pieces_of(kSchemes[1]);
  const Tensors plain = pieces_of(kSchemes[0]);
  constexpr ExitCode kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  const std::string state = ".weight.quant_state.bitsandbytes__nf4";

  for (const char* suffix : {".weight", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax",
                             ".weight.nested_quant_map"})
    CHECK(says(failure(without(nested, suffix), kBad), std::string(kQuery) + suffix + "' is missing"));
  CHECK(says(failure(without(nested, state), kBad), "bitsandbytes__nf4' (or fp4) is missing"));
  CHECK(says(failure({piece(const_cast<Tensors&>(plain), ".weight")}, kBad), "packed bytes"));

  Tensors wrong = plain;  // one absmax too few
  piece(wrong, ".weight.absmax").shape[0] -= 1;
  piece(wrong, ".weight.absmax").bytes.resize(piece(wrong, ".weight.absmax").bytes.size() - 4);
  CHECK(says(failure(wrong, kBad), "must hold 64 values of F32, holds 63"));
  wrong = plain;  // one packed byte too many
  piece(wrong, ".weight").shape[0] += 1;
  piece(wrong, ".weight").bytes += 'x';
  CHECK(says(failure(wrong, kBad), "has 2049 bytes"));
  wrong = nested;  // nested statistics that quant_state does not speak of
  piece(wrong, state).bytes = piece(const_cast<Tensors&>(plain), state).bytes;
  piece(wrong, state).shape = piece(const_cast<Tensors&>(plain), state).shape;
  CHECK(says(failure(wrong, kBad), "absmax"));
  wrong = plain;
  piece(wrong, state).name = std::string(kQuery) + ".weight.quant_state.bitsandbytes__int4";
  CHECK(says(failure(wrong, kUnknown), "no known form"));
  wrong = plain;
  piece(wrong, state).name = std::string(kQuery) + ".weight.quant_state.bitsandbytes__fp4";
  CHECK(says(failure(wrong, kBad), "quant_type"));
  wrong = plain;
  wrong.push_back({std::string(kQuery) + ".SCB", "F32", {64}, std::string(256, '\0')});
  CHECK(says(failure(wrong, kBad), "4 bit and of 8 bit"));

  const auto state_case = [&](const std::string& from, const std::string& to, ExitCode code,
                              const std::string& words) {
    CAPTURE(from, to);
    CHECK(says(failure(with_state(nested, from, to), code), words));
  };
  state_case("{", "[", kBad, "quant_state");
  state_case("\"blocksize\"", "\"block_size\"", kBad, "unknown key 'block_size'");
  state_case("64, \"dtype\"", "48, \"dtype\"", kBad, "block size 48");
  state_case("64, \"dtype\"", "\"64\", \"dtype\"", kBad, "integer");
  state_case("bfloat16", "int8", kBad, "'dtype'");
  state_case("[64, 64]", "[64]", kBad, "[out, in]");
  state_case("[64, 64]", "64", kBad, "[out, in]");
  state_case("[64, 64]", "[-64, -64]", kBad, "between 1 and");
  state_case("[64, 64]", "[64, 0]", kBad, "between 1 and");
  state_case("[64, 64]", "[99999999999, 99999999999]", kBad, "between 1 and");
  state_case("[64, 64]", "[64, 128]", kBad, "bytes");
  state_case("[64, 64]", "[64, \"64\"]", kBad, "between 1 and");
  state_case("\"nested_blocksize\": 256", "\"nested_blocksize\": 128", kUnknown, "nested block size");
  state_case("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", kUnknown, "nested_dtype");
  state_case("\"nested_offset\": ", "\"nested_offset\": \"x\", \"a\": ", kBad, "unknown key 'a'");
  state_case("\"nested_offset\": 0.", "\"nested_offset\": " + std::string(50, '9'), kBad, "nested_offset");
  state_case("\"nested_offset\": 0.", "\"nested_offset\": NaN, \"x\": 0.", kBad, "NaN");
}

TEST_CASE("a quant_state may be spelled otherwise than Python does") {
  Tensors tensors = pieces_of(kSchemes[1]);
  test::RawTensor& state = piece(tensors, ".weight.quant_state.bitsandbytes__nf4");
  Json json = parse_json(state.bytes, "state");
  const double offset = json["nested_offset"];
  json["nested_offset"] = json["nested_offset"].dump();
  state.bytes = "  " + json.dump(3) + "\n";
  state.shape = {static_cast<std::int64_t>(state.bytes.size())};
  for (test::RawTensor& tensor : tensors)
    if (tensor.name == std::string(kQuery) + ".weight") tensor.shape = {1, tensor.shape[0]};
  const test::TempFolder folder;
  test::write_text(folder / "config.json", "{}");
  test::write_safetensors(folder / "model.safetensors", tensors);
  const Weight weight = read_weight(Checkpoint::open(folder.path()), kQuery, 6.0f);
  CHECK(std::get<Block4Weight>(weight).nested_offset == static_cast<float>(offset));
  CHECK(std::get<Block4Weight>(weight).shape == Shape{64, 64});
}

TEST_CASE("missing and contradictory pieces of an 8-bit weight are named") {
  const Tensors int8 = pieces_of(kSchemes[4]);
  constexpr ExitCode kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  CHECK(says(failure(without(int8, ".SCB"), kBad), ".SCB' is missing"));
  CHECK(says(failure(without(without(int8, ".SCB"), ".weight_format"), kBad), ".SCB' is missing"));
  CHECK(says(failure(without(int8, ".weight"), kBad), ".weight' is missing"));
  Tensors wrong = int8;
  piece(wrong, ".SCB").shape = {63};
  piece(wrong, ".SCB").bytes.resize(63 * 4);
  CHECK(says(failure(wrong, kBad), "must hold 64 values"));
  wrong = int8;
  piece(wrong, ".weight").dtype = "U8";
  CHECK(says(failure(wrong, kBad), "values of I8"));
  wrong = int8;
  piece(wrong, ".weight").shape = {64 * 64};
  CHECK(says(failure(wrong, kBad), "two dimensions"));
  for (char format = 1; format <= 4; ++format) {
    wrong = int8;
    piece(wrong, ".weight_format").bytes = std::string(1, format);
    CHECK(says(failure(wrong, kUnknown), "only 0 (row)"));
  }
  wrong = int8;
  piece(wrong, ".weight_format").bytes = "row";
  piece(wrong, ".weight_format").shape = {3};
  CHECK(says(failure(wrong, kUnknown), "one byte"));

  // old files lack the format or give it a dimension
  const test::TempFolder folder;
  test::write_text(folder / "config.json", "{}");
  for (const bool keep : {false, true}) {
    Tensors old = keep ? int8 : without(int8, ".weight_format");
    if (keep) piece(old, ".weight_format").shape = {1};
    test::write_safetensors(folder / "model.safetensors", old);
    CHECK(std::get<Int8Weight>(read_weight(Checkpoint::open(folder.path()), kQuery, 5.0f)).threshold == 5.0f);
  }
}

TEST_CASE("tensors that belong nowhere are errors") {
  const test::TempFolder folder;
  const auto outcome = [&](const std::string& name) {
    Tensors tensors = test::tensors_of({});
    tensors.push_back({name, "F32", {1}, std::string(4, '\0')});
    test::make_checkpoint({}, folder.path());
    test::write_safetensors(folder / "model.safetensors", tensors);
    try {
      source_tensors(Checkpoint::open(folder.path()));
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(name) != std::string::npos);
      return error.code();
    }
    return ExitCode::kOk;
  };
  CHECK(outcome("model.layers.0.mlp.router.weight") == ExitCode::kUnsupported);
  CHECK(outcome("score.weight") == ExitCode::kUnsupported);
  CHECK(outcome("model.layers.2.mlp.up_proj.bias") == ExitCode::kMalformed);
  CHECK(outcome("model.layers.5.mlp.up_proj.SCB") == ExitCode::kMalformed);
  CHECK(outcome("model.layers.5.mlp.up_proj.weight.absmax") == ExitCode::kMalformed);
  CHECK(outcome("model.layers.0.self_attn.rotary_emb.inv_freq") == ExitCode::kOk);
}

TEST_CASE("a tied matrix is an embedding, under whatever name it is stored") {
  const test::TempFolder folder;
  using Tied = test::TinyLlama::Tied;
  for (const Tied tied : {Tied::kEmbedding, Tied::kHead, Tied::kBoth}) {
    const Checkpoint checkpoint = Checkpoint::open(test::make_checkpoint({.tied = tied}, folder.path()));
    PlanOptions options;
    options.quant = kSchemes[1];
    options.tied_head = model_spec_of(checkpoint).tied_head;
    const Plan plan = make_plan(source_tensors(checkpoint), options);
    CHECK(plan.entries.front().module == "model.embed_tokens");
    CHECK(plan.entries.front().source.name ==
          (tied == Tied::kHead ? "lm_head.weight" : "model.embed_tokens.weight"));
    CHECK(plan.dropped.size() == (tied == Tied::kBoth ? 1u : 0u));
    CHECK(plan.skip_modules == std::vector<std::string>{"model.embed_tokens", "lm_head"});
    const Tensor embedding = make_weight_source(checkpoint, nullptr, nullptr)->dense(Role::kEmbedding, -1);
    CHECK(embedding.shape() == Shape{96, 64});
  }
}

TEST_CASE("weights quantized while they are read are those of a quantized checkpoint") {
  const test::TempFolder folder;
  const ReferenceQuantizer quantizer;
  const test::TinyLlama model{.dtype = DType::kF32, .mlp_bias = true};
  const Checkpoint plain = Checkpoint::open(test::make_checkpoint(model, folder / "plain"));
  PlanOptions options;
  options.quant = kSchemes[1];
  options.rest_dtype = DType::kBF16;
  options.skip_modules = {"v_proj"};
  const Plan plan = make_plan(source_tensors(plain), options);
  const auto source = make_weight_source(plain, &plan, &quantizer);

  const Weight up = source->linear(Role::kUp, 1);
  CHECK(std::get<Block4Weight>(up).source_dtype == DType::kBF16);
  const Tensor narrow = converted(plain.read("model.layers.1.mlp.up_proj.weight").view(), DType::kBF16);
  const Weight at_once = quantize(quantizer, narrow.view(), options.quant);
  const auto expected = named_parts("m", at_once);
  const auto parts = named_parts("m", up);
  REQUIRE(parts.size() == expected.size());
  for (std::size_t i = 0; i < parts.size(); ++i) CHECK(bytes_of(parts[i].view) == bytes_of(expected[i].view));

  CHECK(std::get<DenseWeight>(source->linear(Role::kValue, 0)).values.dtype() == DType::kBF16);
  CHECK(std::get<DenseWeight>(source->linear(Role::kHead, -1)).values.dtype() == DType::kBF16);
  CHECK(source->dense(Role::kFinalNorm, -1).dtype() == DType::kBF16);
  CHECK(source->bias(Role::kUp, 0)->dtype() == DType::kBF16);
  CHECK(!source->bias(Role::kQuery, 0));
  const auto as_stored = make_weight_source(plain, nullptr, nullptr);
  CHECK(as_stored->dense(Role::kFinalNorm, -1).dtype() == DType::kF32);
  CHECK(std::get<DenseWeight>(as_stored->linear(Role::kUp, 0)).values.dtype() == DType::kF32);

  // and once more from a checkpoint that is quantized already
  write_quantized(folder / "int8", model, kSchemes[4], quantized(model, kSchemes[4]), 1);
  const Checkpoint int8 = Checkpoint::open(folder / "int8");
  const Plan again = make_plan(source_tensors(int8), options);
  CHECK(std::get<Block4Weight>(make_weight_source(int8, &again, &quantizer)->linear(Role::kUp, 1)).shape ==
        Shape{160, 64});
}

// --- against what bitsandbytes itself wrote

TEST_CASE("every quantized Llama of bitsandbytes is read and filed again byte for byte") {
  if (!test::has_shared("golden") || !test::has_shared("models")) return;
  int folders = 0;
  int weights = 0;
  for (const char* root : {"golden", "models"}) {
    for (const auto& entry : fs::directory_iterator(test::shared(root))) {
      const std::string name = entry.path().filename().string();
      if (name.find("llama_") != 0 && name != "demo-nf4dq" && name != "demo-int8") continue;
      INFO(name);
      const Checkpoint checkpoint = Checkpoint::open(entry.path().string());
      const Plan stored = stored_plan(checkpoint);
      CHECK(stored.bytes() == checkpoint.bytes());
      for (const PlanEntry& planned : stored.entries) {
        if (!planned.quantized) continue;
        const Weight weight = read_weight(checkpoint, planned.module, 6.0f);
        CHECK(shape_of(weight) == planned.source.shape);
        for (const NamedTensor& part : named_parts(planned.module, weight)) {
          const StoredTensor& file = checkpoint.at(part.name);
          CHECK(part.view.dtype == file.info.dtype);
          CHECK(part.view.shape == file.info.shape);
          CHECK(bytes_of(part.view) == bytes_of(checkpoint.read(part.name).view()));
        }
        ++weights;
      }
      ++folders;
    }
  }
  CHECK(folders == 22);
  CHECK(weights > 300);
}

TEST_CASE("quantizing the Llama bases gives the tensors of bitsandbytes on CUDA") {
  if (!test::has_shared("golden")) return;
  const ReferenceQuantizer quantizer;
  int folders = 0;
  for (const auto& entry : fs::directory_iterator(test::shared("golden"))) {
    const std::string name = entry.path().filename().string();
    if (name.find("llama_") != 0 || name.find("_CPU") != std::string::npos) continue;
    INFO(name);
    const Checkpoint golden = Checkpoint::open(entry.path().string());
    const auto config = quant_config_of(golden.config());
    REQUIRE(config);
    const DType dtype = model_spec_of(golden).dtype;
    const Checkpoint base =
        Checkpoint::open(test::shared("golden/base_llama_" + std::string(info(dtype).torch_name)));
    PlanOptions options;
    options.quant = config->spec;
    options.rest_dtype = dtype;
    options.skip_modules = config->skip_modules;
    const Plan plan = make_plan(source_tensors(base), options);
    if (!config->skip_modules.empty()) CHECK(plan.skip_modules == config->skip_modules);
    CHECK(plan.hf_memory_footprint(0) == stored_plan(golden).hf_memory_footprint(0));
    CHECK(plan.parameters() == stored_plan(golden).parameters());
    const auto source = make_weight_source(base, &plan, &quantizer);
    std::size_t tensors = 0;
    for (const PlanEntry& planned : plan.entries) {
      const TensorRole& role = planned.source.role;
      std::vector<NamedTensor> parts;
      Weight weight;
      if (is_linear(role.role))
        weight = source->linear(role.role, role.layer);
      else
        weight = DenseWeight{source->dense(role.role, role.layer)};
      for (const NamedTensor& part : named_parts(planned.module, weight)) {
        CAPTURE(part.name);
        const Tensor file = golden.read(part.name);
        CHECK(part.view.dtype == file.dtype());
        CHECK(part.view.shape == file.shape());
        CHECK(bytes_of(part.view) == bytes_of(file.view()));
        ++tensors;
      }
    }
    CHECK(tensors == golden.tensors().size());
    ++folders;
  }
  CHECK(folders == 16);
}
