// The streaming pipeline against the quantizer applied to whole weights, on models of odd shapes, by any
// number of threads, into any number of shards; and what is left after a failure.
#include "formats/quantize_checkpoint.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/convert.h"
#include "core/cpu/cpu_backend.h"
#include "core/error.h"
#include "formats/architectures.h"
#include "formats/json.h"
#include "formats/model_files.h"
#include "formats/verify_checkpoint.h"
#include "formats/weights_io.h"
#include "test/support/make_checkpoint.h"

using namespace qtool;
using test::TempFolder;
using test::TinyLlama;

namespace {

Plan plan_of(const Checkpoint& source, const QuantSpec& quant, DType rest) {
  const ModelSpec model = model_spec_of(source);
  PlanOptions options;
  options.quant = quant;
  options.rest_dtype = rest;
  options.tied_head = model.tied_head;
  return make_plan(source_tensors(source), options);
}

// Quantizes the checkpoint in `from` into `to`, as the command does.
QuantizedCheckpoint convert(const std::string& from, const std::string& to, const QuantSpec& quant,
                            DType rest, const StreamOptions& stream) {
  const Checkpoint source = Checkpoint::open(from);
  const Plan plan = plan_of(source, quant, rest);
  AtomicFolder folder(to, false);
  QuantizedCheckpoint result = quantize_checkpoint(source, plan, *make_cpu_quantizer(), folder, stream);
  folder.write("config.json", to_python_json(output_config(source.config(), plan)));
  folder.commit();
  return result;
}

StreamOptions with_threads(int threads, std::int64_t max_shard = 5'000'000'000) {
  StreamOptions options;
  options.threads = threads;
  options.max_shard_bytes = max_shard;
  return options;
}

QuantSpec spec_of(QuantMethod method, Code4 code = Code4::kNf4, bool nested = false, int block_size = 64) {
  QuantSpec spec;
  spec.method = method;
  spec.code = code;
  spec.nested = nested;
  spec.block_size = block_size;
  return spec;
}

const QuantSpec kNf4 = spec_of(QuantMethod::kBlock4);
const QuantSpec kNf4Nested = spec_of(QuantMethod::kBlock4, Code4::kNf4, true);
const QuantSpec kInt8 = spec_of(QuantMethod::kInt8);

std::map<std::string, std::string> files_in(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = test::read_text(entry.path().string());
  return files;
}

bool same_bytes(const TensorView& view, const Tensor& tensor) {
  return view.bytes() == tensor.bytes() &&
         std::memcmp(view.data, tensor.data(), static_cast<std::size_t>(view.bytes())) == 0;
}

// Every tensor of the output is what the quantizer makes of the whole weight, or the cast source.
void check_against_whole_weights(const std::string& from, const std::string& to, const QuantSpec& quant,
                                 DType rest) {
  const Checkpoint source = Checkpoint::open(from), written = Checkpoint::open(to);
  const Plan plan = plan_of(source, quant, rest);
  const auto quantizer = make_cpu_quantizer();
  std::size_t tensors = 0;
  for (const PlanEntry& entry : plan.entries) {
    const Tensor values = converted(source.read(entry.source.name).view(), rest);
    CAPTURE(entry.source.name);
    if (!entry.quantized) {
      CHECK(same_bytes(values.view(), written.read(entry.module + entry.parts.at(0).suffix)));
      ++tensors;
      continue;
    }
    const Weight weight = quantize(*quantizer, values.view(), quant);
    for (const NamedTensor& part : named_parts(entry.module, weight)) {
      CAPTURE(part.name);
      CHECK(written.at(part.name).info.shape == part.view.shape);
      CHECK(written.at(part.name).info.dtype == part.view.dtype);
      CHECK(same_bytes(part.view, written.read(part.name)));
      ++tensors;
    }
  }
  CHECK(tensors == written.tensors().size());
}

// Odd on purpose: rows that are no multiples of a block, tensors that end in a partial block, biases.
TinyLlama odd_model() {
  TinyLlama model;
  model.vocab = 61;
  model.hidden = 56;
  model.intermediate = 100;
  model.heads = 4;
  model.kv_heads = 1;
  model.head_dim = 14;
  model.attention_bias = true;
  model.mlp_bias = true;
  return model;
}

}  // namespace

TEST_CASE("every scheme gives what whole weights give, on odd shapes") {
  const TempFolder temporary;
  int round = 0;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    TinyLlama model = odd_model();
    model.dtype = dtype;
    model.tied = dtype == DType::kF16 ? TinyLlama::Tied::kBoth : TinyLlama::Tied::kNo;
    model.shards = dtype == DType::kF32 ? 3 : 1;
    const std::string from = test::make_checkpoint(model, temporary / ("in" + std::to_string(round)));
    for (const QuantSpec& quant :
         {kNf4, kNf4Nested, spec_of(QuantMethod::kBlock4, Code4::kFp4, true, 128),
          spec_of(QuantMethod::kBlock4, Code4::kFp4, false, 4096), kInt8, spec_of(QuantMethod::kNone)}) {
      CAPTURE(round, scheme_name(quant));
      const std::string to = temporary / ("out" + std::to_string(round++));
      convert(from, to, quant, dtype, with_threads(2));
      check_against_whole_weights(from, to, quant, dtype);
    }
  }
}

TEST_CASE("the dtype of the rest is also what weights are cast to before they are quantized") {
  const TempFolder temporary;
  TinyLlama model = odd_model();
  model.dtype = DType::kF32;
  const std::string from = test::make_checkpoint(model, temporary / "in");
  convert(from, temporary / "out", kNf4Nested, DType::kF16, with_threads(2));
  check_against_whole_weights(from, temporary / "out", kNf4Nested, DType::kF16);
}

TEST_CASE("tensors of many chunks, any number of threads and shards: the same bytes") {
  const TempFolder temporary;
  TinyLlama model = odd_model();
  model.layers = 1;
  model.intermediate = 19'001;  // 1.06 M elements: two chunks, the second one ends in a partial block
  const std::string from = test::make_checkpoint(model, temporary / "in");
  int round = 0;
  for (const QuantSpec& quant : {kNf4Nested, kInt8}) {
    for (const std::int64_t max_shard : {std::int64_t{5'000'000'000}, std::int64_t{700'000}}) {
      std::map<std::string, std::string> first;
      for (const int threads : {1, 2, 7}) {
        CAPTURE(scheme_name(quant), max_shard, threads);
        const std::string to = temporary / ("out" + std::to_string(round++));
        convert(from, to, quant, DType::kBF16, with_threads(threads, max_shard));
        const auto files = files_in(to);
        CHECK((files.size() > 2) == (max_shard < 1'000'000));  // config.json and model.safetensors, or shards
        if (first.empty()) {
          first = files;
          check_against_whole_weights(from, to, quant, DType::kBF16);
        }
        CHECK((files == first));
      }
    }
  }
}

TEST_CASE("a quantized checkpoint becomes what its weights dequantize to") {
  const TempFolder temporary;
  TinyLlama model = odd_model();
  model.intermediate = 19'001;
  model.layers = 1;
  const std::string from = test::make_checkpoint(model, temporary / "in");
  int round = 0;
  for (const QuantSpec& quant : {kNf4Nested, spec_of(QuantMethod::kBlock4, Code4::kFp4), kInt8}) {
    CAPTURE(scheme_name(quant));
    const std::string packed = temporary / ("packed" + std::to_string(round)),
                      plain = temporary / ("plain" + std::to_string(round));
    const std::string again = temporary / ("again" + std::to_string(round++));
    convert(from, packed, quant, DType::kBF16, with_threads(2));
    convert(packed, plain, spec_of(QuantMethod::kNone), DType::kF32, with_threads(3));
    const Checkpoint source = Checkpoint::open(packed), written = Checkpoint::open(plain);
    CHECK_FALSE(written.config().contains("quantization_config"));
    CHECK(written.tensors().size() == Checkpoint::open(from).tensors().size());
    const std::string module = "model.layers.0.mlp.down_proj";
    const Tensor values = dequantize(read_weight(source, module, 6.0f), DType::kF32);
    CHECK(same_bytes(values.view(), written.read(module + ".weight")));
    // Requantizing reads the same values.
    convert(packed, again, kNf4Nested, DType::kF32, with_threads(2));
    check_against_whole_weights(plain, again, kNf4Nested, DType::kF32);
  }
}

TEST_CASE("errors of quantized tensors are those of their values") {
  const TempFolder temporary;
  const std::string from = test::make_checkpoint(odd_model(), temporary / "in");
  const QuantizedCheckpoint result = convert(from, temporary / "out", kNf4, DType::kBF16, with_threads(2));
  REQUIRE(result.errors.size() == 14);
  const Checkpoint source = Checkpoint::open(from), written = Checkpoint::open(temporary / "out");
  const Tensor exact = converted(source.read(result.errors[0].name).view(), DType::kF32);
  const std::string module = result.errors[0].name.substr(0, result.errors[0].name.rfind(".weight"));
  const Tensor quantized = dequantize(read_weight(written, module, 0.0f), DType::kF32);
  double error = 0, sum = 0;
  for (std::int64_t i = 0; i < exact.count(); ++i) {
    const double x = exact.as<float>()[static_cast<std::size_t>(i)],
                 q = quantized.as<float>()[static_cast<std::size_t>(i)];
    error += (x - q) * (x - q);
    sum += x * x;
  }
  CHECK(result.errors[0].relative_rmse == Approx(std::sqrt(error / sum)));
  for (const TensorError& tensor : result.errors) CHECK(tensor.relative_rmse == Approx(0.09).margin(0.02));
}

TEST_CASE("memory is bounded before the work begins") {
  const TempFolder temporary;
  const std::string from = test::make_checkpoint(odd_model(), temporary / "in");
  StreamOptions stream = with_threads(2);
  stream.max_ram_bytes = 1000;
  try {
    convert(from, temporary / "out", kNf4, DType::kBF16, stream);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kMemory);
  }
  CHECK_FALSE(std::filesystem::exists(temporary / "out"));
}

TEST_CASE("a source that shrinks under the reader fails, and leaves nothing") {
  const TempFolder temporary;
  const std::string from = test::make_checkpoint(odd_model(), temporary / "in");
  const Checkpoint source = Checkpoint::open(from);
  const Plan plan = plan_of(source, kNf4Nested, DType::kBF16);
  std::filesystem::resize_file(from + "/model.safetensors", 40'000);
  for (const int threads : {1, 4}) {
    AtomicFolder folder(temporary / "out", false);
    CHECK_THROWS_AS(quantize_checkpoint(source, plan, *make_cpu_quantizer(), folder, with_threads(threads)),
                    Error);
  }
  std::size_t left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(temporary.path()))
    left += entry.exists() ? 1 : 0;
  CHECK(left == 1);  // the input alone
}

TEST_CASE("verification accepts what was written and names what was changed") {
  const TempFolder temporary;
  TinyLlama model = odd_model();
  const std::string from = test::make_checkpoint(model, temporary / "in");
  const Checkpoint source = Checkpoint::open(from);
  int round = 0;
  for (const QuantSpec& quant : {kNf4, kNf4Nested, spec_of(QuantMethod::kBlock4, Code4::kFp4, true), kInt8,
                                 spec_of(QuantMethod::kNone)}) {
    CAPTURE(scheme_name(quant));
    const std::string to = temporary / ("out" + std::to_string(round++));
    convert(from, to, quant, DType::kBF16, with_threads(2));
    const Plan plan = plan_of(source, quant, DType::kBF16);
    const Verification good = verify_checkpoint(source, plan, to, with_threads(2));
    CHECK(good.problems == std::vector<std::string>{});
    CHECK(good.errors.size() == (quant.method == QuantMethod::kNone ? 0u : 14u));

    // One byte of one weight: a code at the other end of the book.
    const std::string file = to + "/model.safetensors", name = "model.layers.1.mlp.up_proj.weight";
    const TensorInfo tensor = Checkpoint::open(to).at(name).info;
    std::string bytes = test::read_text(file);
    bytes[static_cast<std::size_t>(tensor.begin + 7)] =
        static_cast<char>(bytes[static_cast<std::size_t>(tensor.begin + 7)] ^ 0x84);
    test::write_text(file, bytes);
    const Verification bad = verify_checkpoint(source, plan, to, with_threads(2));
    REQUIRE(bad.problems.size() == 1);
    CHECK(bad.problems[0].find(name) != std::string::npos);
  }
}

TEST_CASE("verification reports values that no quantized model can hold") {
  const TempFolder temporary;
  TinyLlama model = odd_model();
  std::vector<test::RawTensor> tensors = test::tensors_of(model);
  for (test::RawTensor& tensor : tensors)
    if (tensor.name == "model.layers.0.self_attn.q_proj.weight")
      tensor.bytes.replace(10, 2, "\xc0\x7f");  // NaN
  std::filesystem::create_directories(temporary / "in");
  test::write_text(temporary / "in/config.json", test::config_of(model));
  test::write_shards(temporary / "in", tensors, 1);
  convert(temporary / "in", temporary / "out", kNf4, DType::kBF16, with_threads(1));
  const Checkpoint source = Checkpoint::open(temporary / "in");
  const Verification found =
      verify_checkpoint(source, plan_of(source, kNf4, DType::kBF16), temporary / "out", with_threads(1));
  REQUIRE_FALSE(found.problems.empty());
  CHECK(found.problems[0].find("q_proj") != std::string::npos);
  CHECK(found.problems[0].find("NaN") != std::string::npos);
}
