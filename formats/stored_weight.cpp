#include "formats/stored_weight.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {
namespace {

constexpr std::string_view kQuantState = ".weight.quant_state.bitsandbytes__";

constexpr std::array<std::string_view, 6> kStatistics{
    ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map",
    ".SCB",           ".weight_format"};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// One weight under inspection.
class WeightReader {
 public:
  WeightReader(const Checkpoint& checkpoint, const std::string& module)
      : checkpoint_(checkpoint), module_(module) {}

  StoredWeight read() {
    refuse_unknown_pieces();
    const StoredTensor* weight = find(".weight");
    const std::optional<Code4> code = code_in_file();
    if (!weight) fail("'" + full(".weight") + "' is missing");
    if (code && find(".SCB")) fail("has statistics of 4 bit and of 8 bit");
    stored_.spec.compute_dtype = DType::kF32;
    if (code)
      block4(*code, weight->info);
    else if (find(".SCB"))
      int8(weight->info);
    else
      dense(weight->info);
    return stored_;
  }

 private:
  std::string full(std::string_view suffix) const { return escaped(module_ + std::string(suffix)); }

  [[noreturn]] void fail(const std::string& message, ExitCode code = ExitCode::kMalformed) const {
    throw Error(code, escaped(checkpoint_.folder()) + ": weight of '" + escaped(module_) + "': " + message,
                checkpoint_.folder());
  }

  const StoredTensor* find(std::string_view suffix) const {
    const auto found = checkpoint_.tensors().find(module_ + std::string(suffix));
    return found == checkpoint_.tensors().end() ? nullptr : &found->second;
  }

  // A piece that must be there, of this dtype and element count.
  const TensorInfo& piece(std::string_view suffix, DType dtype, std::int64_t count) {
    const StoredTensor* tensor = find(suffix);
    if (!tensor) fail("its piece '" + full(suffix) + "' is missing");
    if (tensor->info.dtype != dtype || count_of(tensor->info.shape) != count)
      fail("'" + full(suffix) + "' must hold " + std::to_string(count) + " values of " +
           std::string(info(dtype).name) + ", holds " + std::to_string(count_of(tensor->info.shape)) +
           " of " + std::string(info(tensor->info.dtype).name));
    stored_.pieces.emplace_back(suffix);
    return tensor->info;
  }

  void refuse(std::string_view suffix, const std::string& why) const {
    if (find(suffix)) fail("'" + full(suffix) + "' is there, but " + why);
  }

  void refuse_unknown_pieces() const {
    const std::string prefix = module_ + ".weight.";
    for (auto at = checkpoint_.tensors().lower_bound(prefix);
         at != checkpoint_.tensors().end() && at->first.compare(0, prefix.size(), prefix) == 0; ++at) {
      const std::string_view suffix = std::string_view(at->first).substr(module_.size());
      const bool known = std::find(kStatistics.begin(), kStatistics.end(), suffix) != kStatistics.end() ||
                         suffix == std::string(kQuantState) + "nf4" ||
                         suffix == std::string(kQuantState) + "fp4";
      if (!known)
        fail("'" + escaped(at->first) + "' is a piece of no known form; known are NF4, FP4 and LLM.int8",
             ExitCode::kUnsupported);
    }
  }

  std::optional<Code4> code_in_file() const {
    const bool nf4 = find(std::string(kQuantState) + "nf4");
    const bool fp4 = find(std::string(kQuantState) + "fp4");
    if (nf4 && fp4) fail("has a quant_state of NF4 and one of FP4");
    if (!nf4 && !fp4) return std::nullopt;
    return nf4 ? Code4::kNf4 : Code4::kFp4;
  }

  void dense(const TensorInfo& weight) {
    for (const std::string_view suffix : kStatistics) {
      const bool int8 = suffix == ".SCB" || suffix == ".weight_format";
      refuse(suffix, int8 ? "'" + full(".SCB") + "' is missing"
                          : "'" + full(kQuantState) + "nf4' (or fp4) is missing");
    }
    if (weight.dtype == DType::kI8) fail("it is of 8-bit integers, but '" + full(".SCB") + "' is missing");
    if (weight.dtype == DType::kU8)
      fail("it is of packed bytes, but '" + full(kQuantState) + "nf4' (or fp4) is missing");
    if (!info(weight.dtype).is_float)
      fail("it is of " + std::string(info(weight.dtype).name) + ", not of floating-point numbers");
    stored_.shape = weight.shape;
    stored_.dtype = weight.dtype;
    stored_.pieces = {".weight"};
  }

  void int8(const TensorInfo& weight) {
    if (weight.shape.size() != 2) fail("it must have two dimensions [out, in]");
    for (const std::string_view suffix : kStatistics)
      if (suffix != ".SCB" && suffix != ".weight_format") refuse(suffix, "the weight is of 8 bit");
    check_extents(weight.shape);
    stored_.spec.method = QuantMethod::kInt8;
    stored_.shape = weight.shape;
    piece(".weight", DType::kI8, count_of(weight.shape));
    piece(".SCB", DType::kF32, weight.shape[0]);
    if (const StoredTensor* format = find(".weight_format")) check_format(*format);
  }

  // bitsandbytes has known rows (0) and three column-tiled forms, which it no longer reads itself.
  void check_format(const StoredTensor& tensor) {
    if (tensor.info.dtype != DType::kU8 || tensor.info.bytes != 1)
      fail("'" + full(".weight_format") + "' must be one byte", ExitCode::kUnsupported);
    std::byte format{};
    checkpoint_.read(tensor, 0, {&format, 1});
    static constexpr std::array<const char*, 4> kNames{"row", "col32", "col_turing", "col_ampere"};
    const auto number = std::to_integer<std::size_t>(format);
    if (number != 0)
      fail("'" + full(".weight_format") + "' is " + std::to_string(number) +
               (number < kNames.size() ? std::string(" (") + kNames[number] + ")" : "") +
               "; only 0 (row) is read: save the model again with bitsandbytes 0.45 or later",
           ExitCode::kUnsupported);
    stored_.pieces.emplace_back(".weight_format");
  }

  void block4(Code4 code, const TensorInfo& weight) {
    stored_.spec.method = QuantMethod::kBlock4;
    stored_.spec.code = code;
    const std::string suffix = std::string(kQuantState) + std::string(code_name(code));
    refuse(".weight_format", "the weight is of 4 bit");
    const StoredTensor& state = *find(suffix);
    if (state.info.dtype != DType::kU8 || state.info.bytes > kMaxQuantStateBytes)
      fail("'" + full(suffix) + "' must be at most " + std::to_string(kMaxQuantStateBytes) +
           " bytes of JSON");
    std::string text(static_cast<std::size_t>(state.info.bytes), '\0');
    checkpoint_.read(state, 0, std::as_writable_bytes(std::span(text)));
    parse_state(parse_json(text, full(suffix)), full(suffix));

    const std::int64_t packed = (count_of(stored_.shape) + 1) / 2;
    if (weight.bytes != packed)
      fail("'" + full(".weight") + "' has " + std::to_string(weight.bytes) +
           " bytes, but the shape in its quant_state needs " + std::to_string(packed));
    if (weight.dtype != DType::kU8 && weight.dtype != DType::kI8 && !info(weight.dtype).is_float)
      fail("'" + full(".weight") + "' is filed as " + std::string(info(weight.dtype).name) +
           ", which no quant_storage is");
    stored_.spec.storage = weight.dtype;
    stored_.pieces.emplace_back(".weight");
    const std::int64_t blocks = (count_of(stored_.shape) - 1) / stored_.spec.block_size + 1;
    piece(".weight.absmax", stored_.spec.nested ? DType::kU8 : DType::kF32, blocks);
    piece(".weight.quant_map", DType::kF32, 16);
    if (stored_.spec.nested) {
      piece(".weight.nested_absmax", DType::kF32, (blocks - 1) / kNestedBlockSize + 1);
      piece(".weight.nested_quant_map", DType::kF32, 256);
    } else {
      refuse(".weight.nested_absmax", "its quant_state says nothing of nested statistics");
      refuse(".weight.nested_quant_map", "its quant_state says nothing of nested statistics");
    }
    stored_.pieces.push_back(suffix);
  }

  // The packed JSON of bitsandbytes' QuantState. As there, an unknown key is an error.
  void parse_state(const Json& json, const std::string& what) {
    static constexpr std::array<std::string_view, 7> kKeys{
        "quant_type", "blocksize", "dtype", "shape", "nested_blocksize", "nested_dtype", "nested_offset"};
    if (!json.is_object()) fail("'" + what + "' must be a JSON object");
    for (const auto& [key, value] : json.items())
      if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
        fail("'" + what + "' has the unknown key '" + escaped(key) + "'");

    QuantSpec& spec = stored_.spec;
    if (optional_string(json, "quant_type", "", what) != code_name(spec.code))
      fail("the 'quant_type' in '" + what + "' is not that of its name");
    const std::int64_t block_size = required_int(json, "blocksize", what);
    if (std::find(kBlockSizes4.begin(), kBlockSizes4.end(), block_size) == kBlockSizes4.end())
      fail("block size " + std::to_string(block_size) +
           " is none of 32, 64, 128, 256, 512, 1024, 2048, 4096");
    spec.block_size = static_cast<int>(block_size);
    stored_.dtype = float_dtype(optional_string(json, "dtype", "", what), what);
    stored_.shape = shape_in(json, what);
    spec.nested =
        json.contains("nested_offset") || json.contains("nested_blocksize") || json.contains("nested_dtype");
    if (!spec.nested) return;
    if (const std::int64_t size = required_int(json, "nested_blocksize", what); size != kNestedBlockSize)
      fail("nested block size " + std::to_string(size) + " is not " + std::to_string(kNestedBlockSize),
           ExitCode::kUnsupported);
    if (optional_string(json, "nested_dtype", "", what) != "float32")
      fail("the 'nested_dtype' in '" + what + "' is not float32", ExitCode::kUnsupported);
    stored_.nested_offset = offset_in(json, what);
  }

  DType float_dtype(const std::string& name, const std::string& what) const {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
      if (info(dtype).torch_name == name) return dtype;
    fail("the 'dtype' in '" + what + "' must be float32, float16 or bfloat16, is '" + escaped(name) + "'");
  }

  Shape shape_in(const Json& json, const std::string& what) const {
    Shape shape;
    if (json.contains("shape") && json["shape"].is_array())
      for (const Json& extent : json["shape"])
        shape.push_back(extent.is_number_integer() && extent <= kMaxExtent ? extent.get<std::int64_t>() : -1);
    if (shape.size() != 2) fail("the 'shape' in '" + what + "' must be [out, in]");
    check_extents(shape);
    return shape;
  }

  void check_extents(const Shape& shape) const {
    for (const std::int64_t extent : shape)
      if (extent <= 0 || extent > kMaxExtent) fail("its shape has an extent that is not between 1 and 2^31");
  }

  // A number, or a string that Python's float() would read.
  float offset_in(const Json& json, const std::string& what) const {
    double value = std::nan("");
    const auto found = json.find("nested_offset");
    if (found != json.end() && found->is_number()) value = found->get<double>();
    if (found != json.end() && found->is_string()) {
      const std::string& text = found->get_ref<const std::string&>();
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) value = std::nan("");
    }
    if (!std::isfinite(static_cast<float>(value)))
      fail("the 'nested_offset' in '" + what + "' must be a finite number");
    return static_cast<float>(value);
  }

  const Checkpoint& checkpoint_;
  const std::string& module_;
  StoredWeight stored_;
};

}  // namespace

StoredWeight stored_weight_of(const Checkpoint& checkpoint, const std::string& module) {
  return WeightReader(checkpoint, module).read();
}

std::optional<std::string> module_of_statistic(std::string_view name) {
  for (const std::string_view suffix : kStatistics)
    if (ends_with(name, suffix)) return std::string(name.substr(0, name.size() - suffix.size()));
  if (const auto at = name.rfind(kQuantState); at != std::string_view::npos)
    return std::string(name.substr(0, at));
  return std::nullopt;
}

}  // namespace qtool
