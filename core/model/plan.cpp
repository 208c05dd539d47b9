#include "core/model/plan.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/model/skip_rules.h"

namespace qtool {
namespace {

std::string_view suffix_of(Piece piece) { return piece == Piece::kWeight ? ".weight" : ".bias"; }

// The tensor's name in the output, without ".weight" or ".bias".
std::string module_of(const SourceTensor& tensor) {
  if (!tensor.module.empty()) return tensor.module;
  const std::string_view suffix = suffix_of(tensor.role.piece);
  if (tensor.name.size() <= suffix.size() ||
      tensor.name.compare(tensor.name.size() - suffix.size(), suffix.size(), suffix) != 0)
    throw internal_error("tensor '" + escaped(tensor.name) + "' does not end in " + std::string(suffix));
  return tensor.name.substr(0, tensor.name.size() - suffix.size());
}

constexpr const char* kUnreplaced = "no nn.Linear in transformers (--all-linears quantizes it, too)";

bool is_linear_weight(const SourceTensor& tensor) {
  return is_linear(tensor.role.role) && tensor.role.piece == Piece::kWeight;
}

// A linear weight whose module is replaced when a model is quantized, the skip list aside.
bool is_replaced(const SourceTensor& tensor, bool all_linears) {
  if (!is_linear_weight(tensor) || tensor.role.role == Role::kRouter) return false;
  return tensor.kind != ModuleKind::kOther || all_linears;
}

bool is_conv1d_weight(const SourceTensor& tensor) {
  return is_linear_weight(tensor) && tensor.kind == ModuleKind::kConv1D;
}

// Why a tensor is kept, in words; nothing when it is to be quantized.
std::string reason_to_keep(const PlanEntry& entry, const PlanOptions& options, const SkipList& skip) {
  const TensorRole& role = entry.source.role;
  if (options.quant.method == QuantMethod::kNone) return "no quantization asked for";
  if (role.piece == Piece::kBias) return "bias";
  if (role.role == Role::kHead) return options.tied_head ? "tied to the embedding" : "output head";
  if (role.role == Role::kEmbedding && options.tied_head) return "tied to the output head";
  if (!is_linear(role.role)) return "not a linear layer";
  if (role.role == Role::kRouter) return "router";
  if (!is_replaced(entry.source, options.all_linears)) return kUnreplaced;
  if (skip.skipped.contains(entry.module)) return "named by --skip-modules";
  return {};
}

// "experts" for "model.layers.3.mlp.experts.5.up_proj", where 5 is the role's part; else the leaf name.
std::string short_key(const std::string& module, const TensorRole& role) {
  std::string_view rest = module;
  if (role.part >= 0)
    if (const auto at = rest.rfind("." + std::to_string(role.part) + "."); at != std::string_view::npos)
      rest = rest.substr(0, at);
  return std::string(rest.substr(rest.rfind('.') + 1));
}

SkipList skip_list_of(const std::vector<PlanEntry>& entries, const PlanOptions& options) {
  SkipQuestion question;
  question.user = options.skip_modules;
  for (const PlanEntry& entry : entries) {
    question.all.push_back(entry.module);
    if (is_replaced(entry.source, options.all_linears)) question.linear.push_back(entry.module);
    const bool unreplaced = is_linear_weight(entry.source) && !is_replaced(entry.source, options.all_linears);
    if (unreplaced) question.unreplaced.push_back({entry.module, short_key(entry.module, entry.source.role)});
    if (entry.source.role.role == Role::kEmbedding && options.tied_head)
      question.automatic.push_back(entry.module);
  }
  question.automatic.push_back(options.head_module);
  return resolve_skip_list(question);
}

std::vector<Part> parts_for(const PlanEntry& entry, const PlanOptions& options) {
  const SourceTensor& source = entry.source;
  if (!entry.quantized) {
    Shape shape = source.shape;
    if (is_conv1d_weight(source)) std::swap(shape.at(0), shape.at(1));
    return {{std::string(suffix_of(source.role.piece)), options.rest_dtype, std::move(shape)}};
  }
  try {
    return parts_of(source.shape, options.rest_dtype, options.quant,
                    typical_quant_state_bytes(source.shape, options.rest_dtype, options.quant));
  } catch (const Error& error) {
    throw error.within("tensor '" + escaped(source.name) + "'");
  }
}

// --- transformers' dot_natural_key: a name as a list of parts, each a number or a text with a number behind
// it

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Three-way comparison of decimal numbers of any length.
int compare_numbers(std::string_view a, std::string_view b) {
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.compare(b);
}

// (0, number) < (1, text) < (1, text, number)
int compare_name_parts(std::string_view a, std::string_view b) {
  const bool number_a = all_digits(a);
  const bool number_b = all_digits(b);
  if (number_a != number_b) return number_a ? -1 : 1;
  if (number_a) return compare_numbers(a, b);
  const std::size_t text_a = a.find_last_not_of("0123456789") + 1;
  const std::size_t text_b = b.find_last_not_of("0123456789") + 1;
  if (const int order = a.substr(0, text_a).compare(b.substr(0, text_b))) return order;
  const bool plain_a = text_a == a.size();
  const bool plain_b = text_b == b.size();
  if (plain_a || plain_b) return static_cast<int>(plain_b) - static_cast<int>(plain_a);
  return compare_numbers(a.substr(text_a), b.substr(text_b));
}

// The text up to the next dot; `rest` continues behind it. False when nothing is left.
bool next_name_part(std::string_view& rest, bool& ended, std::string_view& part) {
  if (ended) return false;
  const auto dot = rest.find('.');
  part = rest.substr(0, dot);
  ended = dot == std::string_view::npos;
  if (!ended) rest.remove_prefix(dot + 1);
  return true;
}

}  // namespace

bool dot_natural_less(const std::string& a, const std::string& b) {
  std::string_view rest_a = a, rest_b = b, part_a, part_b;
  bool ended_a = false, ended_b = false;
  while (true) {
    const bool more_a = next_name_part(rest_a, ended_a, part_a);
    const bool more_b = next_name_part(rest_b, ended_b, part_b);
    if (!more_a || !more_b) return !more_a && more_b;  // the shorter list comes first
    if (const int order = compare_name_parts(part_a, part_b)) return order < 0;
  }
}

Plan make_plan(std::vector<SourceTensor> tensors, const PlanOptions& options) {
  Plan plan{options.quant, options.rest_dtype, {}, {}, {}};
  const bool has_embedding = std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& tensor) {
    return tensor.role.role == Role::kEmbedding;
  });
  for (SourceTensor& tensor : tensors) {
    const bool second_copy = options.tied_head && has_embedding && tensor.role.role == Role::kHead &&
                             tensor.role.piece == Piece::kWeight;
    if (tensor.role.role == Role::kIgnored || second_copy) {
      plan.dropped.push_back(std::move(tensor));
      continue;
    }
    PlanEntry entry;
    entry.module = module_of(tensor);
    entry.source = std::move(tensor);
    plan.entries.push_back(std::move(entry));
  }
  std::sort(plan.entries.begin(), plan.entries.end(), [](const PlanEntry& a, const PlanEntry& b) {
    return dot_natural_less(a.module + std::string(suffix_of(a.source.role.piece)),
                            b.module + std::string(suffix_of(b.source.role.piece)));
  });

  const SkipList skip =
      options.quant.method == QuantMethod::kNone ? SkipList{} : skip_list_of(plan.entries, options);
  plan.skip_modules = skip.keys;
  for (PlanEntry& entry : plan.entries) {
    entry.reason = reason_to_keep(entry, options, skip);
    entry.quantized = entry.reason.empty();
    // A Conv1D is stored [in, out] where it is not quantized, [out, in] where it is.
    entry.transposed = is_conv1d_weight(entry.source) && entry.quantized != entry.source.stored_quantized;
    entry.parts = parts_for(entry, options);
  }
  return plan;
}

std::int64_t Plan::bytes() const {
  std::int64_t sum = 0;
  for (const PlanEntry& entry : entries)
    for (const Part& part : entry.parts) sum += part.bytes();
  return sum;
}

std::int64_t Plan::unreplaced_bytes() const {
  std::int64_t sum = 0;
  for (const PlanEntry& entry : entries)
    if (entry.reason == kUnreplaced)
      for (const Part& part : entry.parts) sum += part.bytes();
  return sum;
}

std::int64_t Plan::parameters() const {
  std::int64_t sum = 0;
  for (const PlanEntry& entry : entries) sum += count_of(entry.source.shape);
  return sum;
}

std::int64_t Plan::hf_memory_footprint(std::int64_t buffer_bytes) const {
  std::int64_t sum = buffer_bytes;
  for (const PlanEntry& entry : entries)
    for (const Part& part : entry.parts)
      if (part.suffix == ".weight" || part.suffix == ".bias")
        sum += part.bytes();  // statistics are no parameters
  return sum;
}

}  // namespace qtool
