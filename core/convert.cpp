#include "core/convert.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/float16.h"

namespace qtool {

namespace {

[[noreturn]] void not_a_float(DType dtype) {
  throw Error(ExitCode::kUnsupported, "cannot convert elements of type " + std::string(info(dtype).name) +
                                          "; the floating-point types are F64, F32, F16 and BF16");
}

}  // namespace

void to_float32(const std::byte* in, DType from, std::int64_t count, float* out) {
  switch (from) {
    case DType::kF32:
      std::memcpy(out, in, static_cast<std::size_t>(count) * 4);
      return;
    case DType::kBF16: {
      const auto* source = reinterpret_cast<const std::uint16_t*>(in);
      for (std::int64_t i = 0; i < count; ++i) out[i] = float_from_bf16(source[i]);
      return;
    }
    case DType::kF16: {
      const auto* source = reinterpret_cast<const std::uint16_t*>(in);
      for (std::int64_t i = 0; i < count; ++i) out[i] = float_from_f16(source[i]);
      return;
    }
    case DType::kF64: {
      const auto* source = reinterpret_cast<const double*>(in);
      for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(source[i]);
      return;
    }
    default:
      not_a_float(from);
  }
}

void from_float32(const float* in, std::int64_t count, DType to, std::byte* out) {
  switch (to) {
    case DType::kF32:
      std::memcpy(out, in, static_cast<std::size_t>(count) * 4);
      return;
    case DType::kBF16: {
      auto* target = reinterpret_cast<std::uint16_t*>(out);
      for (std::int64_t i = 0; i < count; ++i) target[i] = bf16_from_float(in[i]);
      return;
    }
    case DType::kF16: {
      auto* target = reinterpret_cast<std::uint16_t*>(out);
      for (std::int64_t i = 0; i < count; ++i) target[i] = f16_from_float(in[i]);
      return;
    }
    case DType::kF64: {
      auto* target = reinterpret_cast<double*>(out);
      for (std::int64_t i = 0; i < count; ++i) target[i] = in[i];
      return;
    }
    default:
      not_a_float(to);
  }
}

void convert(const std::byte* in, DType from, std::int64_t count, DType to, std::byte* out) {
  if (from == to) {
    std::memcpy(out, in, static_cast<std::size_t>(count * size_of(from)));
    return;
  }
  constexpr std::int64_t kChunk = 1024;
  float buffer[kChunk];
  for (std::int64_t done = 0; done < count; done += kChunk) {
    const std::int64_t n = count - done < kChunk ? count - done : kChunk;
    to_float32(in + done * size_of(from), from, n, buffer);
    from_float32(buffer, n, to, out + done * size_of(to));
  }
}

Tensor converted(const TensorView& in, DType to) {
  Tensor out(to, in.shape);
  convert(in.data, in.dtype, in.count(), to, out.data());
  return out;
}

void transpose(const std::byte* in, std::int64_t rows, std::int64_t columns, std::int64_t element_bytes,
               std::byte* out) {
  const auto with = [&]<typename Element>(Element) {
    const auto* from = reinterpret_cast<const Element*>(in);
    auto* to = reinterpret_cast<Element*>(out);
    constexpr std::int64_t kTile = 32;  // 32 cache lines of each side stay in the first-level cache
    for (std::int64_t row = 0; row < rows; row += kTile)
      for (std::int64_t column = 0; column < columns; column += kTile)
        for (std::int64_t r = row; r < std::min(row + kTile, rows); ++r)
          for (std::int64_t c = column; c < std::min(column + kTile, columns); ++c)
            to[c * rows + r] = from[r * columns + c];
  };
  switch (element_bytes) {
    case 1:
      return with(std::uint8_t{});
    case 2:
      return with(std::uint16_t{});
    case 4:
      return with(std::uint32_t{});
    case 8:
      return with(std::uint64_t{});
    default:
      throw internal_error("no elements of " + std::to_string(element_bytes) + " bytes to transpose");
  }
}

Tensor transposed(const TensorView& matrix) {
  if (matrix.shape.size() != 2) throw internal_error("only a matrix can be transposed");
  Tensor out(matrix.dtype, {matrix.shape[1], matrix.shape[0]});
  transpose(matrix.data, matrix.shape[0], matrix.shape[1], size_of(matrix.dtype), out.data());
  return out;
}

}  // namespace qtool
