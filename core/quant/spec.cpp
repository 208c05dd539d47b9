#include "core/quant/spec.h"

#include <algorithm>

#include "core/error.h"
#include "core/quant/blocks.h"

namespace qtool {

std::string_view code_name(Code4 code) { return code == Code4::kNf4 ? "nf4" : "fp4"; }

std::string scheme_name(const QuantSpec& spec) {
  switch (spec.method) {
    case QuantMethod::kNone:
      return "none";
    case QuantMethod::kInt8:
      return "int8";
    case QuantMethod::kBlock4:
      break;
  }
  return std::string(code_name(spec.code)) + (spec.nested ? "-dq" : "");
}

void check_block_size4(int block_size) {
  if (std::find(kBlockSizes4.begin(), kBlockSizes4.end(), block_size) == kBlockSizes4.end())
    throw Error(ExitCode::kUnsupported,
                "blocks of " + std::to_string(block_size) +
                    " values are not supported; block sizes are the powers of two from 32 to "
                    "4096");
}

}  // namespace qtool
