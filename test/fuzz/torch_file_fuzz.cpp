// pytorch_model.bin: the archive's directory, the pickle, and what they make of each other.
#include "formats/torch_file.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] { qtool::read_torch_file(qtool::test::memory_file(data, size)); });
}
