// A line of generate --batch-file.
#include <nlohmann/json.hpp>

#include "cmd/batch_lines.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::optional<qtool::Json> id;
  return qtool::test::survives(
      [&] { qtool::parse_batch_line(qtool::test::text_of(data, size), {}, "line 1", id); });
}
