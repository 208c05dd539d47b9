#include <algorithm>
#include <cstdint>

#include "core/cpu/cpu_backend.h"
#include "core/cpu/quantize_kernels.h"
#include "core/quant/reference_quantizer.h"

namespace qtool {

namespace {

QuantizeSource source_of(DType dtype) {
  return dtype == DType::kF32 ? kFromF32 : dtype == DType::kF16 ? kFromF16 : kFromBF16;
}

// Gives whole blocks and rows to the kernels of one instruction set, and to the reference what these leave: a
// partial last block, and blocks and rows with special values.
class VectorQuantizer final : public ReferenceQuantizer {
 public:
  explicit VectorQuantizer(const QuantizeKernels& kernels) : kernels_(kernels) {}

  void block4(const TensorView& values, Code4 code, int block_size, std::span<std::uint8_t> packed,
              std::span<float> absmax) const override {
    check_block4(values, block_size, packed, absmax);
    const QuantizeSource source = source_of(values.dtype);
    const auto kernel = code == Code4::kNf4 ? kernels_.nf4[source] : kernels_.fp4[source];
    const std::int64_t count = values.count();
    const std::int64_t whole_blocks = count / block_size;

    const auto by_reference = [&](std::int64_t first_block, std::int64_t length) {
      const std::int64_t first = first_block * block_size;
      ReferenceQuantizer::block4(
          {values.data + first * size_of(values.dtype), values.dtype, {length}}, code, block_size,
          packed.subspan(static_cast<std::size_t>(first / 2), static_cast<std::size_t>((length + 1) / 2)),
          absmax.subspan(static_cast<std::size_t>(first_block), 1));
    };
    // A kernel reads its blocks twice: no more at once than stay in the first-level cache.
    const std::int64_t group = std::clamp(kCachedValues / block_size, 1, kMaxKernelBlocks);
    for (std::int64_t block = 0; block < whole_blocks; block += group) {
      const auto blocks = static_cast<int>(std::min(group, whole_blocks - block));
      const std::int64_t first = block * block_size;
      const std::uint32_t left = kernel(values.data + first * size_of(values.dtype), blocks, block_size,
                                        packed.data() + first / 2, absmax.data() + block);
      for (int i = 0; left >> i != 0; ++i)
        if ((left >> i & 1u) != 0) by_reference(block + i, block_size);
    }
    if (whole_blocks * block_size < count) by_reference(whole_blocks, count - whole_blocks * block_size);
  }

  void int8_rows(const TensorView& values, std::span<std::int8_t> codes,
                 std::span<float> row_absmax) const override {
    check_int8_rows(values, codes, row_absmax);
    const auto kernel = kernels_.int8_row[source_of(values.dtype)];
    const std::int64_t columns = values.shape[1];
    for (std::int64_t row = 0; row < values.shape[0]; ++row) {
      const std::int64_t first = row * columns;
      const std::byte* row_values = values.data + first * size_of(values.dtype);
      float* absmax = row_absmax.data() + row;
      if (kernel(row_values, columns, codes.data() + first, absmax)) continue;
      ReferenceQuantizer::int8_rows(
          {row_values, values.dtype, {1, columns}},
          codes.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(columns)), {absmax, 1});
    }
  }

 private:
  static constexpr int kCachedValues = 4096;  // 16 KiB of float32

  const QuantizeKernels& kernels_;
};

}  // namespace

std::unique_ptr<Quantizer> make_cpu_quantizer() {
  switch (cpu_level()) {
    case CpuLevel::kAvx512:
      return std::make_unique<VectorQuantizer>(kQuantizeAvx512);
    case CpuLevel::kAvx2:
      return std::make_unique<VectorQuantizer>(kQuantizeAvx2);
    case CpuLevel::kPortable:
      break;
  }
  return std::make_unique<ReferenceQuantizer>();
}

}  // namespace qtool
