#include "cmd/logical_tensors.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/limits.h"
#include "core/model/plan.h"
#include "core/quant/weight.h"
#include "formats/json.h"

namespace qtool {
namespace {

constexpr std::string_view kStatePrefix = ".quant_state.bitsandbytes__";

// The name of the tensor that `name` is a statistic of; nothing if it is none.
std::optional<std::string> owner_of(const std::string& name) {
  for (const std::string_view suffix : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size());
  for (const std::string_view suffix : {".SCB", ".weight_format"})
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size()) + ".weight";
  const std::size_t state = name.find(kStatePrefix);
  return state == std::string::npos ? std::nullopt : std::optional(name.substr(0, state));
}

// What quant_state says, checked as far as sizes depend on it.
struct QuantState {
  QuantSpec spec;
  DType dtype = DType::kF32;
  Shape shape;
};

QuantState parse_state(const Checkpoint& checkpoint, const std::string& name) {
  const StoredTensor& stored = checkpoint.at(name);
  if (stored.info.bytes > kMaxQuantStateBytes)
    throw Error(ExitCode::kMalformed, name + " has " + std::to_string(stored.info.bytes) + " bytes");
  std::string text(static_cast<std::size_t>(stored.info.bytes), '\0');
  checkpoint.read(stored, 0, std::as_writable_bytes(std::span(text)));
  const Json state = parse_json(text, name);
  const auto malformed = [&](const char* key) -> Error {
    return Error(ExitCode::kMalformed, name + ": '" + key + "' is missing or makes no sense");
  };
  QuantState result;
  result.spec.method = QuantMethod::kBlock4;
  const std::string code = optional_string(state, "quant_type", "", name);
  if (code != "nf4" && code != "fp4") throw malformed("quant_type");
  result.spec.code = code == "nf4" ? Code4::kNf4 : Code4::kFp4;
  const std::int64_t block_size = required_int(state, "blocksize", name);
  if (std::find(kBlockSizes4.begin(), kBlockSizes4.end(), block_size) == kBlockSizes4.end())
    throw malformed("blocksize");
  result.spec.block_size = static_cast<int>(block_size);
  result.spec.nested = state.contains("nested_blocksize");
  const auto dtype = dtype_from_name(optional_string(state, "dtype", "", name));
  if (!dtype || !info(*dtype).is_float) throw malformed("dtype");
  result.dtype = *dtype;
  if (!state.contains("shape") || !state["shape"].is_array()) throw malformed("shape");
  std::int64_t count = 1;
  for (const Json& extent : state["shape"]) {
    if (!extent.is_number_integer()) throw malformed("shape");
    const auto size = extent.get<std::int64_t>();
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) throw malformed("shape");
    result.shape.push_back(size);
  }
  if (result.shape.size() != 2 || count > (std::int64_t{1} << 60)) throw malformed("shape");
  return result;
}

// Compares the pieces that are there with those that parts_of() says there must be.
void compare_pieces(const Checkpoint& checkpoint, std::int64_t state_bytes, LogicalTensor& tensor) {
  std::set<std::string> expected;
  for (const Part& part : parts_of(tensor.shape, tensor.dtype, *tensor.quant, state_bytes)) {
    const std::string name = tensor.module + part.suffix;
    expected.insert(name);
    if (!checkpoint.has(name)) {
      if (part.suffix == ".weight_format")
        tensor.remarks.emplace_back("no weight_format, so it is read as stored row by row");
      else
        tensor.faults.push_back("lacks " + name);
      continue;
    }
    const TensorInfo& found = checkpoint.at(name).info;
    if (found.dtype != part.dtype || found.bytes != part.bytes())
      tensor.faults.push_back("holds " + std::string(info(found.dtype).name) + " " + text_of(found.shape) +
                              " in " + name + " where " + std::string(info(part.dtype).name) + " " +
                              text_of(part.shape) + " is due");
    else if (found.shape != part.shape)
      tensor.remarks.push_back("another shape than the " + text_of(part.shape) + " that bitsandbytes writes");
  }
  for (const std::string& piece : tensor.pieces)
    if (!expected.contains(piece)) tensor.faults.push_back("has a stray piece " + piece);
}

void read_form(const Checkpoint& checkpoint, LogicalTensor& tensor) {
  const TensorInfo& stored = checkpoint.at(tensor.name).info;
  std::string state;
  bool int8 = stored.dtype == DType::kI8;
  for (const std::string& piece : tensor.pieces) {
    if (piece.ends_with(".SCB")) int8 = true;
    if (piece.find(kStatePrefix) != std::string::npos) state = piece;
  }
  if (int8) {
    tensor.quant = QuantSpec{.method = QuantMethod::kInt8};
    tensor.dtype = DType::kF16;
    if (tensor.shape.size() != 2) {
      tensor.faults.emplace_back("is LLM.int8 but no matrix");
      return;
    }
    return compare_pieces(checkpoint, 0, tensor);
  }
  tensor.quant = QuantSpec{.method = QuantMethod::kBlock4};
  if (state.empty())
    return tensor.faults.push_back("lacks " + tensor.name + std::string(kStatePrefix) + "nf4 or fp4");
  try {
    const QuantState read = parse_state(checkpoint, state);
    tensor.quant = read.spec;
    tensor.quant->storage = stored.dtype;
    tensor.dtype = read.dtype;
    tensor.shape = read.shape;
    compare_pieces(checkpoint, checkpoint.at(state).info.bytes, tensor);
  } catch (const Error& error) {  // a fault of this one tensor among many
    tensor.faults.emplace_back(error.what());
  }
}

}  // namespace

std::string LogicalTensor::form() const {
  return quant ? scheme_name(*quant) : std::string(info(dtype).name);
}

std::vector<LogicalTensor> logical_tensors(const Checkpoint& checkpoint) {
  std::map<std::string, LogicalTensor> found;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    const auto owner = owner_of(name);
    const bool orphan = owner && !checkpoint.has(*owner);
    LogicalTensor& tensor = found[owner && !orphan ? *owner : name];
    tensor.bytes += stored.info.bytes;
    if (owner && !orphan) {
      tensor.pieces.push_back(name);
      continue;
    }
    tensor.name = name;
    tensor.module = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name;
    tensor.dtype = stored.info.dtype;
    tensor.shape = stored.info.shape;
    tensor.pieces.insert(tensor.pieces.begin(), name);
    if (orphan) tensor.faults.push_back("is a statistic of " + *owner + ", which is not there");
  }
  std::vector<LogicalTensor> tensors;
  for (auto& [name, tensor] : found) {
    const auto first_file = checkpoint.at(name).file;
    const bool scattered =
        std::any_of(tensor.pieces.begin(), tensor.pieces.end(),
                    [&](const std::string& piece) { return checkpoint.at(piece).file != first_file; });
    if (scattered)
      tensor.remarks.emplace_back("pieces in several shards, which transformers 4.54 and 4.55 cannot load");
    if (tensor.pieces.size() > 1 || tensor.dtype == DType::kI8) read_form(checkpoint, tensor);
    tensors.push_back(std::move(tensor));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const LogicalTensor& a, const LogicalTensor& b) { return dot_natural_less(a.name, b.name); });
  return tensors;
}

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

}  // namespace qtool
