// The likeliest token as the CPU finds it: whatever the width, the type and where a row begins.
#include "cuda/argmax.h"

#include <limits>

#include "cuda/raii.h"
#include "test/cuda/sides.h"

namespace qtool {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kRows = 129;

// Few different values, so that the largest comes more than once; and the rows that are out of the ordinary.
Tensor logits_of(std::int64_t cols) {
  Tensor tensor(DType::kF32, {kRows, cols});
  std::uint64_t state = 7;
  const auto next = [&state] {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::int64_t>(state >> 40);
  };
  for (std::int64_t row = 0; row < kRows; ++row) {
    const auto values =
        tensor.as<float>().subspan(static_cast<std::size_t>(row * cols), static_cast<std::size_t>(cols));
    for (float& value : values) value = static_cast<float>(next() % 401 - 200) / 8.0f;
    const auto somewhere = static_cast<std::size_t>(next() % cols);
    switch (row % 10) {
      case 1:
        std::ranges::fill(values, -2.5f);
        break;
      case 2:
        std::ranges::fill(values, -kInfinity);
        break;
      case 3:
        values[somewhere] = std::numeric_limits<float>::quiet_NaN();
        break;
      case 4:
        values[somewhere] = kInfinity;
        break;
      case 5:
        std::ranges::fill(values, -kInfinity);
        values.back() = -1000.0f;
        break;
      case 6:
        values.front() = values.back() = 1000.0f;
        break;
      case 7:
        std::ranges::fill(values, -0.0f);
        values[somewhere] = 0.0f;
        break;
      case 8:
        values[somewhere] = 1000.0f;
        break;
      default:
        break;
    }
  }
  return tensor;
}

TEST_CASE("argmax is the CPU's: ties, what is not finite, any width, type and number of rows") {
  SKIP_WITHOUT_GPU();
  const test::Side cpu{make_cpu_backend(2)};
  const auto gpu = make_cuda_backend(0);
  const cuda::Stream stream;
  const auto expected_ids = cpu.backend->make_ids(kRows);
  for (const std::int64_t cols : {1, 2, 7, 31, 33, 1000, 32000, 50257, 152064}) {
    const Tensor values = logits_of(cols);
    std::vector<std::int32_t> expected(kRows);
    cpu.backend->argmax(*cpu.array(values), kRows, cols, *expected_ids);
    cpu.backend->read_ids(*expected_ids, expected);
    CHECK(expected[0] >= 0);
    CHECK(expected[1] == 0);
    CHECK(expected[2] == 0);
    CHECK(expected[3] == -1);
    CHECK(expected[4] == -1);
    CHECK(expected[5] == cols - 1);
    CHECK(expected[6] == 0);
    for (const DType type :
         {DType::kF32, DType::kF16, DType::kBF16}) {  // which hold these values as they are
      const Tensor typed = converted(values.view(), type);
      const cuda::Buffer memory(cuda::Place::kDevice, typed.bytes());
      REQUIRE(cudaMemcpy(memory.as<void>(), typed.data(), static_cast<std::size_t>(typed.bytes()),
                         cudaMemcpyHostToDevice) == cudaSuccess);
      for (const std::int64_t rows : {1, 2, 8, 33, 128, 129}) {
        if (test::left_out()) continue;
        INFO(rows << "x" << cols << " of " << info(type).name);
        cuda::CudaIds ids(kRows);
        std::fill_n(ids.memory.as<std::int32_t>(), kRows, -7);
        cuda::argmax({memory.as<void>(), type}, rows, cols, ids, stream.get());
        stream.wait();
        const std::vector<std::int32_t> found(ids.memory.as<std::int32_t>(),
                                              ids.memory.as<std::int32_t>() + kRows);
        CHECK(std::equal(found.begin(), found.begin() + rows, expected.begin()));
        CHECK(std::count(found.begin(), found.end(), -7) == kRows - rows);
      }
    }
  }
  // Through the backend, from an array.
  const test::Side side{make_cuda_backend(0)};
  const Tensor values = logits_of(77);
  const auto array = side.array(values);
  const auto ids = side.backend->make_ids(kRows);
  std::vector<std::int32_t> found(kRows), expected(kRows);
  side.backend->argmax(*array, kRows, 77, *ids);
  side.backend->read_ids(*ids, found);
  cpu.backend->argmax(*cpu.array(values), kRows, 77, *expected_ids);
  cpu.backend->read_ids(*expected_ids, expected);
  CHECK(found == expected);
}

}  // namespace
}  // namespace qtool
