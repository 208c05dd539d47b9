// config.json: which model, which traits, which quantization.
#include <nlohmann/json.hpp>

#include "formats/architectures.h"
#include "formats/quant_config.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    const qtool::Json config = qtool::parse_json(qtool::test::text_of(data, size), "fuzz");
    qtool::quant_config_of(config);
    qtool::model_spec_of(config);
  });
}
