// tokenizer.json, and texts through what it describes.
#include <nlohmann/json.hpp>

#include "formats/tokenizer_json.h"
#include "test/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    qtool::test::tokenize(qtool::parts_from_tokenizer_json(
        qtool::parse_json(qtool::test::text_of(data, size), "fuzz"), "fuzz"));
  });
}
