#include "core/convert.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "core/error.h"

using namespace qtool;

TEST_CASE("transposing moves every element, whatever its size") {
  // Larger than a tile in both directions, with tails.
  constexpr std::int64_t kRows = 70, kColumns = 45;
  for (const DType dtype : {DType::kU8, DType::kBF16, DType::kF32, DType::kF64}) {
    const std::int64_t size = size_of(dtype);
    Tensor matrix(dtype, {kRows, kColumns});
    for (std::int64_t i = 0; i < matrix.bytes(); ++i) matrix.data()[i] = static_cast<std::byte>(i * 7 % 251);
    const Tensor turned = transposed(matrix.view());
    REQUIRE(turned.shape() == Shape{kColumns, kRows});
    for (std::int64_t r = 0; r < kRows; ++r)
      for (std::int64_t c = 0; c < kColumns; ++c)
        REQUIRE(std::memcmp(matrix.data() + (r * kColumns + c) * size, turned.data() + (c * kRows + r) * size,
                            static_cast<std::size_t>(size)) == 0);
  }
  CHECK_THROWS_AS(transposed(Tensor(DType::kF32, {3}).view()), Error);
}
