#include "core/tensor.h"

#include <cstdlib>
#include <string>
#include <utility>

#include "core/error.h"

namespace qtool {

namespace {
constexpr std::size_t kAlignment = 64;  // one cache line, one AVX-512 register
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)) {
  const auto bytes = static_cast<std::size_t>(count_of(shape_) * size_of(dtype_));
  const std::size_t padded = (bytes / kAlignment + 1) * kAlignment;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, padded)));
  if (!data_)
    throw Error(ExitCode::kMemory, "cannot allocate " + std::to_string(padded) + " bytes of host memory");
}

void Tensor::Free::operator()(std::byte* pointer) const { std::free(pointer); }

}  // namespace qtool
