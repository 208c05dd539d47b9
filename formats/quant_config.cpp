#include "formats/quant_config.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace qtool {
namespace {

constexpr const char* kWhat = "config.json: quantization_config";

[[noreturn]] void malformed(const std::string& message) {
  throw Error(ExitCode::kMalformed, std::string(kWhat) + ": " + message);
}

void check_method(const Json& block) {
  const std::string method = optional_string(block, "quant_method", "", kWhat);
  if (method != "bitsandbytes" && !method.empty())
    throw Error(ExitCode::kUnsupported, std::string(kWhat) + ": the checkpoint is quantized by '" +
                                            escaped(method) +
                                            "'; qtool reads bitsandbytes' and unquantized checkpoints");
  // Blocks without a method are those of early bitsandbytes checkpoints, known by their load_in_ keys.
  if (method.empty() && !block.contains("load_in_4bit") && !block.contains("load_in_8bit"))
    malformed("names no 'quant_method'");
}

DType compute_dtype_of(const Json& block) {
  const std::string name = optional_string(block, "bnb_4bit_compute_dtype", "float32", kWhat);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    if (info(dtype).torch_name == name) return dtype;
  malformed("'bnb_4bit_compute_dtype' must be float32, float16 or bfloat16, is '" + escaped(name) + "'");
}

DType storage_of(const Json& block) {
  const std::string name = optional_string(block, "bnb_4bit_quant_storage", "uint8", kWhat);
  for (const DType dtype : {DType::kU8, DType::kI8, DType::kF16, DType::kBF16, DType::kF32, DType::kF64})
    if (info(dtype).torch_name == name) return dtype;
  malformed("'bnb_4bit_quant_storage' must be uint8, int8, float16, bfloat16, float32 or float64, is '" +
            escaped(name) + "'");
}

Code4 code_of(const Json& block) {
  const std::string name = optional_string(block, "bnb_4bit_quant_type", "fp4", kWhat);
  for (const Code4 code : {Code4::kNf4, Code4::kFp4})
    if (code_name(code) == name) return code;
  malformed("'bnb_4bit_quant_type' must be nf4 or fp4, is '" + escaped(name) + "'");
}

float threshold_of(const Json& block) {
  const auto found = block.find("llm_int8_threshold");
  if (found == block.end()) return 6.0f;
  if (!found->is_number_float())
    malformed("'llm_int8_threshold' must be a number with a decimal point (6.0), is " + found->dump() +
              "; transformers refuses anything else");
  const double value = found->get<double>();
  if (!(value >= 0.0 && value <= 3e38))
    malformed("'llm_int8_threshold' must not be negative, is " + found->dump());
  return static_cast<float>(value);
}

std::vector<std::string> skip_modules_of(const Json& block) {
  std::vector<std::string> modules;
  const auto found = block.find("llm_int8_skip_modules");
  if (found == block.end() || found->is_null()) return modules;
  if (!found->is_array()) malformed("'llm_int8_skip_modules' must be a list of strings or null");
  for (const Json& module : *found) {
    if (!module.is_string()) malformed("'llm_int8_skip_modules' must be a list of strings or null");
    modules.push_back(module.get<std::string>());
  }
  return modules;
}

// The double nearest to the float's own shortest decimal: 5.3f is written as 5.3, not as 5.300000190734863.
double as_typed(float value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double out = 0.0;
  std::from_chars(text, end, out);
  return out;
}

}  // namespace

std::optional<QuantConfig> quant_config_of(const Json& config) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || found->is_null()) return std::nullopt;
  const Json& block = *found;
  if (!block.is_object()) malformed("must be an object");
  check_method(block);

  const bool four = optional_bool(block, "load_in_4bit", false, kWhat);
  const bool eight = optional_bool(block, "load_in_8bit", false, kWhat);
  if (four == eight) malformed("exactly one of 'load_in_4bit' and 'load_in_8bit' must be true");
  for (const char* key :
       {"llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "_load_in_4bit", "_load_in_8bit"})
    optional_bool(block, key, false, kWhat);

  // Everything is checked, whichever method it belongs to: transformers does so, too.
  QuantSpec spec;
  spec.method = four ? QuantMethod::kBlock4 : QuantMethod::kInt8;
  spec.code = code_of(block);
  spec.nested = optional_bool(block, "bnb_4bit_use_double_quant", false, kWhat);
  spec.compute_dtype = compute_dtype_of(block);
  spec.storage = storage_of(block);
  spec.int8_threshold = threshold_of(block);
  if (eight) {  // an 8-bit block carries 4-bit defaults that mean nothing
    QuantSpec int8;
    int8.method = QuantMethod::kInt8;
    int8.int8_threshold = spec.int8_threshold;
    spec = int8;
  }
  return QuantConfig{spec, skip_modules_of(block)};
}

Json quant_config_json(const QuantSpec& spec, const std::vector<std::string>& skip_modules) {
  if (spec.method == QuantMethod::kNone)
    throw internal_error("a quantization_config for an unquantized model");
  const bool four = spec.method == QuantMethod::kBlock4;
  return {
      {"_load_in_4bit", four},
      {"_load_in_8bit", !four},
      {"bnb_4bit_compute_dtype", four ? info(spec.compute_dtype).torch_name : "float32"},
      {"bnb_4bit_quant_storage", four ? info(spec.storage).torch_name : "uint8"},
      {"bnb_4bit_quant_type", four ? code_name(spec.code) : "fp4"},
      {"bnb_4bit_use_double_quant", four && spec.nested},
      {"llm_int8_enable_fp32_cpu_offload", false},
      {"llm_int8_has_fp16_weight", false},
      {"llm_int8_skip_modules", skip_modules.empty() ? Json(nullptr) : Json(skip_modules)},
      {"llm_int8_threshold", as_typed(spec.int8_threshold)},
      {"load_in_4bit", four},
      {"load_in_8bit", !four},
      {"quant_method", "bitsandbytes"},
  };
}

}  // namespace qtool
