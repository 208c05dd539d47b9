// config.json's quantization_config <-> QuantSpec, in the form transformers' BitsAndBytesConfig reads and
// writes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/quant/spec.h"
#include "formats/json.h"

namespace qtool {

struct QuantConfig {
  QuantSpec spec;
  std::vector<std::string> skip_modules;
};

// Nothing when the checkpoint is not quantized. Errors: kUnsupported for another method than bitsandbytes
// (named), kMalformed for values transformers would refuse.
std::optional<QuantConfig> quant_config_of(const Json& config);

// The block to be written: every key, as transformers writes them.
Json quant_config_json(const QuantSpec& spec, const std::vector<std::string>& skip_modules);

}  // namespace qtool
