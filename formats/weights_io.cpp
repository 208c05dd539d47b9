#include "formats/weights_io.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/convert.h"
#include "core/error.h"
#include "formats/architectures.h"
#include "formats/quant_config.h"
#include "formats/stored_weight.h"
#include "formats/tensor_names.h"

namespace qtool {
namespace {

constexpr std::byte kRowFormat{0};  // the content of every weight_format

std::string_view suffix_of(Piece piece) { return piece == Piece::kWeight ? ".weight" : ".bias"; }

// The spec under which parts_of() lists the pieces that `weight` has.
QuantSpec spec_of(const Block4Weight& weight) {
  QuantSpec spec;
  spec.method = QuantMethod::kBlock4;
  spec.code = weight.code;
  spec.block_size = weight.block_size;
  spec.nested = weight.nested();
  spec.storage = weight.storage;
  return spec;
}

// The bytes of each piece, in the order of parts_of().
std::vector<const std::byte*> piece_bytes(const DenseWeight& weight) { return {weight.values.data()}; }
std::vector<const std::byte*> piece_bytes(const Int8Weight& weight) {
  return {weight.codes.data(), weight.row_absmax.data(), &kRowFormat};
}
std::vector<const std::byte*> piece_bytes(const Block4Weight& weight) {
  std::vector<const std::byte*> bytes{weight.packed.data(), weight.absmax.data(), weight.quant_map.data()};
  if (weight.nested()) {
    bytes.push_back(weight.nested_absmax.data());
    bytes.push_back(weight.nested_quant_map.data());
  }
  bytes.push_back(weight.quant_state.data());
  return bytes;
}

std::vector<Part> parts_of_weight(const Weight& weight) {
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    return parts_of(dense->values.shape(), dense->values.dtype(), QuantSpec{}, 0);
  if (const auto* int8 = std::get_if<Int8Weight>(&weight)) {
    QuantSpec spec;
    spec.method = QuantMethod::kInt8;
    return parts_of(int8->codes.shape(), DType::kF16, spec, 0);
  }
  const auto& block4 = std::get<Block4Weight>(weight);
  return parts_of(block4.shape, block4.source_dtype, spec_of(block4), block4.quant_state.bytes());
}

Block4Weight read_block4(const Checkpoint& checkpoint, const std::string& module,
                         const StoredWeight& stored) {
  Block4Weight weight;
  weight.shape = stored.shape;
  weight.code = stored.spec.code;
  weight.block_size = stored.spec.block_size;
  weight.source_dtype = stored.dtype;
  weight.storage = stored.spec.storage;
  weight.nested_offset = stored.nested_offset;
  // Whatever type the codes are filed under, they are bytes: a conversion would destroy them.
  const StoredTensor& packed = checkpoint.at(module + ".weight");
  weight.packed = Tensor(DType::kU8, {packed.info.bytes});
  checkpoint.read(packed, 0, {weight.packed.data(), static_cast<std::size_t>(packed.info.bytes)});
  weight.absmax = checkpoint.read(module + ".weight.absmax");
  weight.quant_map = checkpoint.read(module + ".weight.quant_map");
  if (stored.spec.nested) {
    weight.nested_absmax = checkpoint.read(module + ".weight.nested_absmax");
    weight.nested_quant_map = checkpoint.read(module + ".weight.nested_quant_map");
  }
  weight.quant_state = checkpoint.read(module + stored.pieces.back());
  return weight;
}

// What tensor `name` is in the model that `spec` describes.
TensorRole known_role(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec,
                      const std::string& name) {
  const std::optional<TensorRole> role = role_of(architecture, name);
  if (!role)
    throw Error(ExitCode::kUnsupported,
                escaped(checkpoint.folder()) + ": tensor '" + escaped(name) + "' is not part of " +
                    spec.architecture + " as qtool knows it",
                checkpoint.folder());
  if (role->layer >= spec.layers && role->role != Role::kIgnored)
    throw Error(ExitCode::kMalformed,
                escaped(checkpoint.folder()) + ": tensor '" + escaped(name) + "' belongs to layer " +
                    std::to_string(role->layer) + ", but by config.json there are " +
                    std::to_string(spec.layers) + " (from 0)",
                checkpoint.folder());
  if (role->part >= spec.experts.experts && role->role >= Role::kExpertGate &&
      role->role <= Role::kExpertDown)
    throw Error(ExitCode::kMalformed,
                escaped(checkpoint.folder()) + ": tensor '" + escaped(name) + "' belongs to expert " +
                    std::to_string(role->part) + ", but by config.json there are " +
                    std::to_string(spec.experts.experts) + " (from 0)",
                checkpoint.folder());
  return *role;
}

SourceTensor source_of(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec,
                       const std::string& name, const TensorInfo& info) {
  SourceTensor source{name, info.dtype, info.shape, known_role(checkpoint, architecture, spec, name)};
  if (source.role.role == Role::kIgnored) return source;
  const std::string module = name.substr(0, name.size() - suffix_of(source.role.piece).size());
  if (const auto canonical = canonical_module(architecture, module); canonical != module)
    source.module = *canonical;
  if (source.role.piece == Piece::kBias) return source;
  const StoredWeight stored = stored_weight_of(checkpoint, module);
  source.kind = kind_of(architecture, source.role.role);
  source.stored_quantized = stored.spec.method != QuantMethod::kNone;
  source.shape = stored.shape;
  if (is_linear(source.role.role) && source.kind == ModuleKind::kConv1D && !source.stored_quantized &&
      source.shape.size() == 2)
    std::swap(source.shape[0], source.shape[1]);  // stored [in, out]
  source.dtype = stored.spec.method == QuantMethod::kInt8 ? spec.dtype : stored.dtype;
  if (source.role.role == Role::kHead && spec.tied_head &&
      !checkpoint.has(stored_module(checkpoint, architecture, Role::kEmbedding, -1) + ".weight")) {
    source.role.role = Role::kEmbedding;
    source.module = module_name(architecture, Role::kEmbedding, -1);
  }
  return source;
}

class CheckpointSource : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, const Plan* plan, const Quantizer* quantizer,
                   int concurrent_calls)
      : checkpoint_(checkpoint),
        plan_(plan),
        quantizer_(quantizer),
        concurrent_calls_(concurrent_calls),
        architecture_(architecture_of(checkpoint.config())) {
    if (const auto config = quant_config_of(checkpoint.config())) threshold_ = config->spec.int8_threshold;
    if (plan && !quantizer) throw internal_error("a plan for weights without a quantizer");
    if (plan)
      for (const PlanEntry& entry : plan->entries) entries_[key(entry.source.role)] = &entry;
  }

  Weight linear(Role role, int layer, int part) override {
    Weight weight = read_weight(checkpoint_, stored(role, layer, part), threshold_);
    if (auto* dense = std::get_if<DenseWeight>(&weight);
        dense && kind_of(architecture_, role) == ModuleKind::kConv1D)
      dense->values = transposed(dense->values.view());  // stored [in, out]
    if (!plan_) return weight;
    const PlanEntry& entry = entry_of({role, layer, Piece::kWeight, part});
    const auto* dense = std::get_if<DenseWeight>(&weight);
    if (dense && !entry.quantized && dense->values.dtype() == plan_->rest_dtype) return weight;
    Tensor values = dequantize(weight, plan_->rest_dtype);
    if (!entry.quantized) return DenseWeight{std::move(values)};
    return quantize(*quantizer_, values.view(), plan_->quant);
  }

  std::optional<Tensor> bias(Role role, int layer, int part) override {
    const std::string name = stored(role, layer, part) + ".bias";
    if (!checkpoint_.has(name)) return std::nullopt;
    return rest(checkpoint_.read(name));
  }

  Tensor dense(Role role, int layer) override {
    if (stored_by_head(architecture_, role)) return rest(all_heads(role, layer));
    std::string name = stored(role, layer) + ".weight";
    if (role == Role::kEmbedding && !checkpoint_.has(name))  // the tied matrix, stored as the head
      name = stored(Role::kHead, -1) + ".weight";
    Tensor values = rest(checkpoint_.read(name));
    // Norms of single heads: [heads, head_dim] is one list of numbers here.
    if (role == Role::kQueryNorm || role == Role::kKeyNorm) return flattened(std::move(values));
    return values;
  }

  int concurrent_calls() const override { return concurrent_calls_; }

 private:
  static std::tuple<Role, int, Piece, int> key(const TensorRole& role) {
    return {role.role, role.layer, role.piece, role.part};
  }

  std::string stored(Role role, int layer, int part = -1) const {
    return stored_module(checkpoint_, architecture_, role, layer, part);
  }

  // The weights [head_dim] of all heads behind each other, [heads * head_dim].
  Tensor all_heads(Role role, int layer) const {
    std::vector<Tensor> heads;
    std::int64_t bytes = 0;
    for (int head = 0; checkpoint_.has(stored(role, layer, head) + ".weight"); ++head) {
      heads.push_back(checkpoint_.read(stored(role, layer, head) + ".weight"));
      bytes += heads.back().bytes();
      if (heads.back().dtype() != heads.front().dtype())
        throw Error(ExitCode::kMalformed, "'" + stored(role, layer, head) +
                                              ".weight' differs in dtype from that of the first head");
    }
    if (heads.empty()) throw internal_error("norms of single heads that were not checked to be there");
    Tensor all(heads.front().dtype(), Shape{bytes / size_of(heads.front().dtype())});
    std::byte* to = all.data();
    for (const Tensor& head : heads) to = std::copy_n(head.data(), head.bytes(), to);
    return all;
  }

  static Tensor flattened(Tensor values) {
    if (values.shape().size() == 1) return values;
    Tensor flat(values.dtype(), Shape{values.count()});
    std::copy_n(values.data(), values.bytes(), flat.data());
    return flat;
  }

  const PlanEntry& entry_of(const TensorRole& role) const {
    const auto found = entries_.find(key(role));
    if (found == entries_.end()) throw internal_error("the plan lacks a weight of the model");
    return *found->second;
  }

  Tensor rest(Tensor stored) const {
    if (!plan_ || stored.dtype() == plan_->rest_dtype) return stored;
    return converted(stored.view(), plan_->rest_dtype);
  }

  const Checkpoint& checkpoint_;
  const Plan* plan_;
  const Quantizer* quantizer_;
  int concurrent_calls_;
  const Architecture& architecture_;
  float threshold_ = 6.0f;
  std::map<std::tuple<Role, int, Piece, int>, const PlanEntry*> entries_;
};

}  // namespace

std::vector<NamedTensor> named_parts(const std::string& module, const Weight& weight) {
  const std::vector<Part> parts = parts_of_weight(weight);
  const std::vector<const std::byte*> bytes =
      std::visit([](const auto& form) { return piece_bytes(form); }, weight);
  std::vector<NamedTensor> named;
  for (std::size_t i = 0; i < parts.size(); ++i)
    named.push_back({module + parts[i].suffix, {bytes[i], parts[i].dtype, parts[i].shape}});
  return named;
}

Weight read_weight(const Checkpoint& checkpoint, const std::string& module, float threshold) {
  const StoredWeight stored = stored_weight_of(checkpoint, module);
  switch (stored.spec.method) {
    case QuantMethod::kNone:
      return DenseWeight{checkpoint.read(module + ".weight")};
    case QuantMethod::kInt8:
      return Int8Weight{checkpoint.read(module + ".weight"), checkpoint.read(module + ".SCB"), threshold};
    case QuantMethod::kBlock4:
      break;
  }
  return read_block4(checkpoint, module, stored);
}

std::vector<SourceTensor> source_tensors(const Checkpoint& checkpoint) {
  const Architecture& architecture = architecture_of(checkpoint.config());
  const ModelSpec spec = model_spec_of(checkpoint);
  std::vector<SourceTensor> sources;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (const auto module = module_of_statistic(name)) {
      if (checkpoint.has(*module + ".weight")) continue;
      throw Error(ExitCode::kMalformed,
                  escaped(checkpoint.folder()) + ": tensor '" + escaped(name) +
                      "' describes a weight that is missing: '" + escaped(*module) + ".weight'",
                  checkpoint.folder());
    }
    sources.push_back(source_of(checkpoint, architecture, spec, name, tensor.info));
  }
  return sources;
}

Plan stored_plan(const Checkpoint& checkpoint) {
  const ModelSpec spec = model_spec_of(checkpoint);
  const std::optional<QuantConfig> config = quant_config_of(checkpoint.config());
  PlanOptions options;
  options.rest_dtype = spec.dtype;
  options.tied_head = spec.tied_head;
  Plan plan = make_plan(source_tensors(checkpoint), options);
  if (config) {
    plan.quant = config->spec;
    plan.skip_modules = config->skip_modules;
  }
  for (PlanEntry& entry : plan.entries) {
    const std::string suffix(suffix_of(entry.source.role.piece));
    const std::string module = entry.source.name.substr(0, entry.source.name.size() - suffix.size());
    std::vector<std::string> pieces{suffix};
    if (entry.source.role.piece == Piece::kWeight) {
      const StoredWeight stored = stored_weight_of(checkpoint, module);
      entry.quantized = stored.spec.method != QuantMethod::kNone;
      pieces = stored.pieces;
    }
    entry.reason = entry.quantized ? "" : "stored unquantized";
    entry.parts.clear();
    for (const std::string& piece : pieces) {
      const TensorInfo& tensor = checkpoint.at(module + piece).info;
      entry.parts.push_back({piece, tensor.dtype, tensor.shape});
    }
  }
  return plan;
}

std::unique_ptr<WeightSource> make_weight_source(const Checkpoint& checkpoint, const Plan* plan,
                                                 const Quantizer* quantizer, int concurrent_calls) {
  return std::make_unique<CheckpointSource>(checkpoint, plan, quantizer, concurrent_calls);
}

}  // namespace qtool
