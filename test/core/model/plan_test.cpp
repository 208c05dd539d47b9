#include "core/model/plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "core/error.h"
#include "core/model/skip_rules.h"

using namespace qtool;

namespace {

// The tensors of a Llama, as a checkpoint's header lists them.
struct Dims {
  int vocab, hidden, intermediate, layers, heads, kv_heads, head_dim;
};
constexpr Dims kLlama{96, 128, 352, 2, 4, 2, 32};     // ../shared/golden/base_llama_*
constexpr Dims kLlamaTied{96, 64, 160, 1, 4, 4, 16};  // ../shared/golden/base_llama_tied_bfloat16

std::vector<SourceTensor> llama(const Dims& dims, bool tied, bool bias = false) {
  std::vector<SourceTensor> out;
  const auto add = [&](const std::string& module, Role role, int layer, Shape shape) {
    if (bias && is_linear(role) && role != Role::kHead)
      out.push_back({module + ".bias", DType::kBF16, {shape[0]}, {role, layer, Piece::kBias}});
    out.push_back({module + ".weight", DType::kBF16, std::move(shape), {role, layer, Piece::kWeight}});
  };
  const std::int64_t q = dims.heads * dims.head_dim;
  const std::int64_t kv = dims.kv_heads * dims.head_dim;
  add("model.embed_tokens", Role::kEmbedding, -1, {dims.vocab, dims.hidden});
  for (int layer = 0; layer < dims.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm", Role::kInputNorm, layer, {dims.hidden});
    add(prefix + "self_attn.q_proj", Role::kQuery, layer, {q, dims.hidden});
    add(prefix + "self_attn.k_proj", Role::kKey, layer, {kv, dims.hidden});
    add(prefix + "self_attn.v_proj", Role::kValue, layer, {kv, dims.hidden});
    add(prefix + "self_attn.o_proj", Role::kAttentionOutput, layer, {dims.hidden, q});
    add(prefix + "post_attention_layernorm", Role::kMlpNorm, layer, {dims.hidden});
    add(prefix + "mlp.gate_proj", Role::kGate, layer, {dims.intermediate, dims.hidden});
    add(prefix + "mlp.up_proj", Role::kUp, layer, {dims.intermediate, dims.hidden});
    add(prefix + "mlp.down_proj", Role::kDown, layer, {dims.hidden, dims.intermediate});
  }
  add("model.norm", Role::kFinalNorm, -1, {dims.hidden});
  if (!tied) add("lm_head", Role::kHead, -1, {dims.vocab, dims.hidden});
  return out;
}

PlanOptions options(QuantMethod method, DType rest = DType::kBF16, DType storage = DType::kU8) {
  PlanOptions out;
  out.quant.method = method;
  out.quant.nested = true;
  out.quant.storage = storage;
  out.rest_dtype = rest;
  return out;
}

const PlanEntry& entry_of(const Plan& plan, const std::string& name) {
  const auto found = std::find_if(plan.entries.begin(), plan.entries.end(),
                                  [&](const PlanEntry& entry) { return entry.source.name == name; });
  REQUIRE(found != plan.entries.end());
  return *found;
}

std::vector<std::string> quantized_modules(const Plan& plan) {
  std::vector<std::string> out;
  for (const PlanEntry& entry : plan.entries)
    if (entry.quantized) out.push_back(entry.module);
  return out;
}

Plan skipping(std::vector<std::string> modules, const Dims& dims = kLlama, bool tied = false) {
  PlanOptions with = options(QuantMethod::kBlock4);
  with.skip_modules = std::move(modules);
  with.tied_head = tied;
  return make_plan(llama(dims, tied), with);
}

using Names = std::vector<std::string>;

}  // namespace

// The numbers are those that transformers 5.17 printed for the models in ../shared/golden: with and without
// buffers.
TEST_CASE("the footprint is transformers' own, to the byte") {
  struct Row {
    Dims dims;
    bool tied;
    QuantMethod method;
    DType rest, storage;
    Names skip;
    std::int64_t with_buffers, without;
  };
  const auto k4 = QuantMethod::kBlock4, k8 = QuantMethod::kInt8, kNone = QuantMethod::kNone;
  const Row rows[] = {
      {kLlama, false, k4, DType::kBF16, DType::kU8, {}, 234880, 234752},
      {kLlama, false, k4, DType::kBF16, DType::kBF16, {}, 234880, 234752},
      {kLlama, false, k4, DType::kBF16, DType::kF32, {}, 234880, 234752},
      {kLlama, false, k4, DType::kF32, DType::kU8, {}, 285312, 285184},
      {kLlama, false, k8, DType::kBF16, DType::kU8, {}, 419200, 419072},
      {kLlama, false, k8, DType::kF32, DType::kU8, {}, 469632, 469504},
      {kLlama, false, k4, DType::kBF16, DType::kU8, {"q_proj"}, 284032, 283904},
      {kLlama, false, kNone, DType::kBF16, DType::kU8, {}, 787840, 787712},
      {kLlamaTied, true, k4, DType::kBF16, DType::kU8, {}, 36288, 36224},
      {kLlamaTied, true, k8, DType::kBF16, DType::kU8, {}, 59840, 59776},
  };
  for (const Row& row : rows) {
    PlanOptions with = options(row.method, row.rest, row.storage);
    with.skip_modules = row.skip;
    with.tied_head = row.tied;
    const Plan plan = make_plan(llama(row.dims, row.tied), with);
    CHECK(plan.hf_memory_footprint(0) == row.without);
    CHECK(plan.hf_memory_footprint(rotary_buffer_bytes(row.dims.head_dim)) == row.with_buffers);
    CHECK(plan.parameters() == (row.tied ? 53440 : 393856));
    CHECK((row.method == kNone ? plan.bytes() == row.without : plan.bytes() > row.without));
  }
}

TEST_CASE("the bytes of a plan are those of its parts") {
  const Plan plan = skipping({});
  // [128, 128] in NF4, nested: 8192 codes, 256 absmax, 64 + 4 + 1024 of maps and nested absmax, quant_state
  const PlanEntry& query = entry_of(plan, "model.layers.0.self_attn.q_proj.weight");
  REQUIRE(query.parts.size() == 6);
  std::int64_t bytes = 0;
  for (const Part& part : query.parts) bytes += part.bytes();
  CHECK(bytes ==
        8192 + 256 + 64 + 4 + 1024 + typical_quant_state_bytes(query.source.shape, DType::kBF16, plan.quant));
  const Plan int8 = make_plan(llama(kLlama, false), options(QuantMethod::kInt8));
  CHECK(int8.bytes() == int8.hf_memory_footprint(0) + 4 * 2 * (128 + 64 + 64 + 128 + 352 + 352 + 128) + 14);
}

TEST_CASE("every tensor has its reason") {
  const Plan plan = skipping({"q_proj"});
  CHECK(quantized_modules(plan).size() == 2 * 6);
  CHECK(entry_of(plan, "model.embed_tokens.weight").reason == "not a linear layer");
  CHECK(entry_of(plan, "model.layers.0.input_layernorm.weight").reason == "not a linear layer");
  CHECK(entry_of(plan, "lm_head.weight").reason == "output head");
  CHECK(entry_of(plan, "model.layers.1.self_attn.q_proj.weight").reason == "named by --skip-modules");
  CHECK(entry_of(plan, "model.layers.1.self_attn.k_proj.weight").reason.empty());
  for (const PlanEntry& entry : plan.entries) CHECK(entry.quantized == entry.reason.empty());

  const Plan biased = make_plan(llama(kLlama, false, true), options(QuantMethod::kInt8));
  CHECK(entry_of(biased, "model.layers.0.self_attn.q_proj.bias").reason == "bias");
  CHECK(entry_of(biased, "model.layers.0.self_attn.q_proj.bias").parts[0].suffix == ".bias");
  CHECK(entry_of(biased, "model.layers.0.self_attn.q_proj.bias").module == "model.layers.0.self_attn.q_proj");

  const Plan restored = make_plan(llama(kLlama, false), options(QuantMethod::kNone, DType::kF16));
  CHECK(quantized_modules(restored).empty());
  CHECK(restored.skip_modules.empty());
  for (const PlanEntry& entry : restored.entries) {
    CHECK(entry.reason == "no quantization asked for");
    REQUIRE(entry.parts.size() == 1);
    CHECK(entry.parts[0].dtype == DType::kF16);
    CHECK(entry.parts[0].shape == entry.source.shape);
  }
}

TEST_CASE("what is tied is kept once") {
  const Plan plan = skipping({}, kLlamaTied, true);
  CHECK(plan.skip_modules == Names{"model.embed_tokens", "lm_head"});
  CHECK(entry_of(plan, "model.embed_tokens.weight").reason == "tied to the output head");

  PlanOptions tied = options(QuantMethod::kBlock4);
  tied.tied_head = true;
  const Plan twice = make_plan(llama(kLlamaTied, false), tied);  // the matrix is stored under both names
  REQUIRE(twice.dropped.size() == 1);
  CHECK(twice.dropped[0].name == "lm_head.weight");
  CHECK(twice.parameters() == plan.parameters());
  CHECK(twice.bytes() == plan.bytes());

  std::vector<SourceTensor> head_only = llama(kLlamaTied, false);  // ... under the head's name alone
  head_only.erase(head_only.begin());
  head_only.back().role.role = Role::kEmbedding;
  head_only.back().module = "model.embed_tokens";
  const Plan renamed = make_plan(head_only, tied);
  CHECK(renamed.entries.front().module == "model.embed_tokens");
  CHECK(renamed.entries.front().source.name == "lm_head.weight");
  CHECK(renamed.skip_modules == Names{"model.embed_tokens", "lm_head"});
  CHECK(renamed.bytes() == plan.bytes());
}

TEST_CASE("stray buffers are left out") {
  std::vector<SourceTensor> tensors = llama(kLlama, false);
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {16}, {Role::kIgnored, 0}});
  const Plan plan = make_plan(tensors, options(QuantMethod::kBlock4));
  CHECK(plan.dropped.size() == 1);
  CHECK(plan.bytes() == skipping({}).bytes());
}

TEST_CASE("entries come in transformers' natural order") {
  const Plan plan = skipping({});
  CHECK(plan.entries.front().module == "lm_head");
  CHECK(plan.entries[1].module == "model.embed_tokens");
  CHECK(plan.entries.back().module == "model.norm");

  // As Python sorts by dot_natural_key
  const Names sorted{"",
                     "a",
                     "a.2",
                     "a.10",
                     "a.b",
                     "a.b.SCB",
                     "a.b.bias",
                     "a.b.weight",
                     "a.b.weight.absmax",
                     "a.b.weight_format",
                     "a.b1",
                     "a.b2",
                     "a.b10",
                     "a.b10.c",
                     "a.ba",
                     "a1",
                     "a2",
                     "a99999999999999999999998",
                     "a99999999999999999999999",
                     "b.layers.9.x",
                     "b.layers.10.x",
                     "b.layers.99999999999999999999998",
                     "b.layers.99999999999999999999999"};
  for (std::size_t i = 0; i < sorted.size(); ++i)
    for (std::size_t k = 0; k < sorted.size(); ++k) {
      CAPTURE(sorted[i], sorted[k]);
      CHECK(dot_natural_less(sorted[i], sorted[k]) == (i < k));
    }
}

TEST_CASE("the two rules of transformers") {
  CHECK(transformers4_skips("model.layers.1.mlp.up_proj", "up_proj"));
  CHECK(transformers4_skips("model.layers.1.mlp.up_proj", "mlp"));
  CHECK(transformers4_skips("model.layers.1.mlp.up_proj", "model.layers.1"));
  CHECK(!transformers4_skips("model.layers.10.mlp.up_proj", "model.layers.1"));
  CHECK(!transformers4_skips("model.layers.1.mlp.up_proj", "mlp.up_proj"));
  CHECK(!transformers4_skips("x.qkv_proj", "v_proj"));
  CHECK(transformers5_skips("model.layers.1.mlp.up_proj", "up_proj"));
  CHECK(!transformers5_skips("model.layers.1.mlp.up_proj", "mlp"));
  CHECK(transformers5_skips("model.layers.10.mlp.up_proj", "model.layers.1"));
  CHECK(transformers5_skips("model.layers.1.mlp.up_proj", "mlp.up_proj"));
  CHECK(transformers5_skips("x.qkv_proj", "v_proj"));
  CHECK(transformers5_skips("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.gate"));
  CHECK(transformers5_skips("modelXlayers", "model.layers"));
  CHECK(transformers5_skips("lm_head_extra", "lm_head"));
}

TEST_CASE("the list that is written means the same under both rules") {
  CHECK(skipping({}).skip_modules == Names{"lm_head"});
  CHECK(skipping({"q_proj"}).skip_modules == Names{"lm_head", "q_proj"});
  CHECK(skipping({"lm_head", "q_proj", "q_proj"}).skip_modules == Names{"lm_head", "q_proj"});
  CHECK(skipping({"model.layers.1.mlp.up_proj"}).skip_modules ==
        Names{"lm_head", "model.layers.1.mlp.up_proj"});
  // a module around linear layers: "mlp" alone would mean nothing to transformers 5
  CHECK(skipping({"mlp"}).skip_modules ==
        Names{"lm_head", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_proj",
              "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj", "model.layers.1.mlp.gate_proj",
              "model.layers.1.mlp.up_proj"});
  CHECK(skipping({"model.layers.1"}).skip_modules == Names{"lm_head", "model.layers.1"});
  CHECK(skipping({"model.norm", "input_layernorm", "embed_tokens"}).skip_modules == Names{"lm_head"});

  const Dims deep{96, 64, 160, 12, 4, 4, 16};
  const Plan plan = skipping({"model.layers.1"}, deep);  // to transformers 5 also layers 10 and 11
  CHECK(plan.skip_modules.size() == 1 + 7);
  CHECK(quantized_modules(plan).size() == 11 * 7);
  for (const PlanEntry& entry : plan.entries) {
    if (!is_linear(entry.source.role.role)) continue;
    const auto any = [&](bool (*rule)(std::string_view, std::string_view)) {
      return std::any_of(plan.skip_modules.begin(), plan.skip_modules.end(),
                         [&](const std::string& key) { return rule(entry.module, key); });
    };
    INFO(entry.module);
    CHECK(any(transformers4_skips) == !entry.quantized);
    CHECK(any(transformers5_skips) == !entry.quantized);
  }
}

TEST_CASE("a leaf name is not taken for the end of another") {
  const Names linear{"a.v_proj", "a.qkv_proj", "a.gate", "a.gate_proj"};
  const SkipList list = resolve_skip_list({{"lm_head"}, {"v_proj"}, linear, {}, linear});
  CHECK(list.keys == Names{"lm_head", "a.v_proj"});
  CHECK(list.skipped == std::set<std::string>{"a.v_proj"});
  // transformers 5 reads even "a.gate" as the beginning of "a.gate_proj": no list says it for both
  CHECK_THROWS_AS(resolve_skip_list({{"lm_head"}, {"a.gate"}, linear, {}, linear}), Error);
}

TEST_CASE("a module to skip that is not there is an error") {
  for (const char* name :
       {"qproj", "", "model.layers.2", "proj", "self_attn.q_proj", "model.layers.0.mlp.up"}) {
    INFO(name);
    try {
      skipping({name});
      FAIL("planned");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kUsage);
      CHECK(std::string(error.what()).find("q_proj, ") != std::string::npos);
    }
  }
  CHECK_NOTHROW(skipping({"lm_head"}, kLlamaTied, true));
}

TEST_CASE("a storage type that the codes do not fill is an error with the tensor's name") {
  const Dims odd{96, 6, 33, 1, 1, 1, 6};
  try {
    make_plan(llama(odd, false), options(QuantMethod::kBlock4, DType::kBF16, DType::kF32));
    FAIL("planned");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUnsupported);
    CHECK(std::string(error.what()).find("model.layers.0.") != std::string::npos);
  }
  CHECK_NOTHROW(make_plan(llama(odd, false), options(QuantMethod::kBlock4)));
}

TEST_CASE("experts, routers and transposed matrices") {
  // A layer of each: attention by Conv1D, a router, two experts in one tensor for transformers 5.
  const auto tensors = [] {
    std::vector<SourceTensor> all;
    const auto add = [&](const char* module, Shape shape, TensorRole role, ModuleKind kind) {
      all.push_back({module + std::string(".weight"), DType::kBF16, std::move(shape), role, {}, kind});
    };
    add("embed", {96, 64}, {Role::kEmbedding}, ModuleKind::kOther);
    add("h.0.attn.c_attn", {192, 64}, {Role::kQkv, 0}, ModuleKind::kConv1D);
    add("h.0.mlp.gate", {2, 64}, {Role::kRouter, 0}, ModuleKind::kOther);
    for (int expert = 0; expert < 2; ++expert)
      add(("h.0.mlp.experts." + std::to_string(expert) + ".up").c_str(), {128, 64},
          {Role::kExpertUp, 0, Piece::kWeight, expert}, ModuleKind::kOther);
    add("h.0.mlp.shared.up", {128, 64}, {Role::kSharedUp, 0}, ModuleKind::kLinear);
    add("lm_head", {96, 64}, {Role::kHead}, ModuleKind::kLinear);
    return all;
  };
  PlanOptions options;
  options.quant.method = QuantMethod::kBlock4;
  const auto entry = [](const Plan& plan, const std::string& module) -> const PlanEntry& {
    return *std::find_if(plan.entries.begin(), plan.entries.end(),
                         [&](const PlanEntry& e) { return e.module == module; });
  };

  const Plan plan = make_plan(tensors(), options);
  CHECK(quantized_modules(plan) == Names{"h.0.attn.c_attn", "h.0.mlp.shared.up"});
  CHECK(plan.skip_modules == Names{"lm_head", "experts", "gate"});
  CHECK(plan.unreplaced_bytes() == 2 * 128 * 64 * 2);
  CHECK(entry(plan, "h.0.attn.c_attn").transposed);
  CHECK(entry(plan, "h.0.mlp.gate").reason == "router");

  options.all_linears = true;
  const Plan all = make_plan(tensors(), options);
  CHECK(quantized_modules(all).size() == 4);
  CHECK(all.skip_modules == Names{"lm_head", "gate"});
  CHECK(all.unreplaced_bytes() == 0);

  options.skip_modules = {"c_attn"};  // kept, a Conv1D stays as it is stored
  const Plan kept = make_plan(tensors(), options);
  CHECK(!entry(kept, "h.0.attn.c_attn").transposed);
  CHECK(entry(kept, "h.0.attn.c_attn").parts.front().shape == Shape{64, 192});
}
