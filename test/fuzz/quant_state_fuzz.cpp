// A 4-bit weight: sixteen bytes say which pieces it has, of which types and sizes, the rest is its
// quant_state.
#include <nlohmann/json.hpp>
#include <variant>

#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "formats/weights_io.h"
#include "test/fuzz/fuzz.h"

namespace {

constexpr std::size_t kControlBytes = 16;

// The bytes in front of the quant_state. Zeros: what bitsandbytes writes of an [8, 64] matrix, not nested.
class Pieces {
 public:
  explicit Pieces(const std::uint8_t* control) : control_(control) {}

  std::vector<qtool::TensorSpec> tensors(std::int64_t state_bytes) const {
    using qtool::DType;
    const std::int64_t rows = 8 + control_[0], blocks = rows + signed_byte(1);
    const bool nested = control_[2] % 2;
    std::vector<qtool::TensorSpec> tensors;
    add(tensors, 3, ".weight", DType::kU8, {rows * 32 + signed_byte(4), 1});
    add(tensors, 5, ".weight.absmax", nested ? DType::kU8 : DType::kF32, {blocks});
    add(tensors, 6, ".weight.quant_map", DType::kF32, {16});
    if (nested || control_[2] & 2) {
      add(tensors, 7, ".weight.nested_absmax", DType::kF32, {1 + signed_byte(8)});
      add(tensors, 9, ".weight.nested_quant_map", DType::kF32, {256});
    }
    const bool fp4 = control_[10] % 2;
    add(tensors, 11, std::string(".weight.quant_state.bitsandbytes__") + (fp4 ? "fp4" : "nf4"), DType::kU8,
        {state_bytes});
    constexpr std::array kOthers{".SCB", ".weight_format", ".weight.other", ".bias"};
    if (control_[12] > 0)
      add(tensors, 13, kOthers[control_[12] % kOthers.size()], DType::kF32, {control_[14]});
    return tensors;
  }

 private:
  std::int64_t signed_byte(std::size_t at) const { return static_cast<std::int8_t>(control_[at]); }

  // Byte `at` replaces the type; 255 leaves the piece out.
  void add(std::vector<qtool::TensorSpec>& tensors, std::size_t at, const std::string& suffix,
           qtool::DType dtype, qtool::Shape shape) const {
    const std::uint8_t change = control_[at];
    if (change == 255) return;
    for (std::int64_t& extent : shape) extent = std::max<std::int64_t>(extent, 0);
    if (change > 0) dtype = qtool::kDTypes[change % std::size(qtool::kDTypes)].dtype;
    tensors.push_back({"m" + suffix, dtype, std::move(shape)});
  }

  const std::uint8_t* control_;
};

}  // namespace

// Half of the time one of the first bytes changes and the JSON stays as it is: pieces and JSON that
// contradict each other are what matters here, and few changes leave the JSON valid.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  if (seed % 2 == 0 || size < kControlBytes) return LLVMFuzzerMutate(data, size, max_size);
  data[seed / 2 % kControlBytes] = static_cast<std::uint8_t>(seed >> 8);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const qtool::test::FuzzFolder folder;
  static const bool written = (folder.write("config.json", "{}"), true);
  if (size < kControlBytes || !written) return 0;
  const std::string_view state = qtool::test::text_of(data + kControlBytes, size - kControlBytes);

  qtool::SafetensorsLayout layout = qtool::layout_of(Pieces(data).tensors(std::ssize(state)));
  std::string bytes = layout.prefix;
  bytes.resize(static_cast<std::size_t>(layout.file_bytes), '\x11');
  for (const qtool::TensorInfo& tensor : layout.tensors)
    if (tensor.name.find("quant_state") != std::string::npos)
      bytes.replace(static_cast<std::size_t>(tensor.begin),
                    std::min(state.size(), static_cast<std::size_t>(tensor.bytes)), state);

  return qtool::test::survives([&] {
    const qtool::Checkpoint checkpoint = qtool::Checkpoint::open(
        folder.path(),
        {{"model.safetensors", std::make_shared<qtool::test::MemorySource>(std::move(bytes))}});
    const qtool::Weight weight = qtool::read_weight(checkpoint, "m", 6.0f);
    const qtool::Shape shape = qtool::shape_of(weight);
    const qtool::Tensor values = qtool::dequantize(weight, qtool::DType::kF32);
    qtool::test::must_hold(values.shape() == shape, "dequantized to another shape");
    qtool::named_parts("m", weight);
  });
}
