// The pickle alone: an archive's directory is hard to keep valid for a fuzzer that changes what it points to.
#include "formats/pickle.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] { qtool::read_state_dict({qtool::test::text_of(data, size)}, "fuzz"); });
}
