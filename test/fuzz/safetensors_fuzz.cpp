#include "formats/safetensors.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    for (const qtool::TensorInfo& tensor :
         qtool::read_safetensors_header(qtool::test::memory_file(data, size)).tensors)
      qtool::test::must_hold(tensor.begin >= 0 && tensor.bytes >= 0 &&
                                 tensor.begin + tensor.bytes <= static_cast<std::int64_t>(size),
                             "a tensor lies outside of its file");
  });
}
