// The GPU's codes are the CPU's, bit for bit: every dtype, block size, tail and
// special value.
#include <limits>

#include "core/cpu/cpu_backend.h"
#include "test/cuda/gpu.h"

namespace qtool {
namespace {

using test::left_out;
using test::random_tensor;

void compare_block4(const Tensor& values, Code4 code, int block_size) {
  const auto cpu = make_cpu_quantizer();
  const auto gpu = make_cuda_quantizer(0);
  const auto count = static_cast<std::size_t>(values.count()), block = static_cast<std::size_t>(block_size);
  std::vector<std::uint8_t> packed[2] = {std::vector<std::uint8_t>((count + 1) / 2, 0xaa),
                                         std::vector<std::uint8_t>((count + 1) / 2, 0x55)};
  std::vector<float> absmax[2] = {std::vector<float>((count + block - 1) / block, -1.0f),
                                  std::vector<float>((count + block - 1) / block, -2.0f)};
  cpu->block4(values.view(), code, block_size, packed[0], absmax[0]);
  gpu->block4(values.view(), code, block_size, packed[1], absmax[1]);
  CHECK(packed[0] == packed[1]);
  CHECK(std::memcmp(absmax[0].data(), absmax[1].data(), absmax[0].size() * 4) == 0);
}

TEST_CASE("4-bit codes are those of the CPU") {
  SKIP_WITHOUT_GPU();
  unsigned seed = 1;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (const Code4 code : {Code4::kNf4, Code4::kFp4})
      for (const int block_size : {32, 64, 128, 256, 512, 1024, 2048, 4096})
        for (const std::int64_t count : {1, 31, 64, 4097, 70001}) {
          if (left_out()) continue;
          INFO(info(dtype).name << " block " << block_size << " count " << count);
          compare_block4(random_tensor(dtype, {count}, ++seed, 0.02f), code, block_size);
        }
}

TEST_CASE("special values get the CPU's codes") {
  SKIP_WITHOUT_GPU();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float specials[] = {0.0f,  -0.0f, 1e-40f, -1e-40f, 1e-38f, 3e38f, -3e38f, kInf,
                            -kInf, NAN,   65504,  6e-8f,   1.0f,   -1.0f, 0.5f,   1e30f};
  std::mt19937 generator(7);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Tensor values(dtype, {64 * 512});
    std::vector<float> source(64 * 512);
    for (std::size_t i = 0; i < source.size(); ++i) {
      const std::size_t block = i / 64;
      // Blocks of one special value, blocks of some among ordinary ones.
      source[i] = block < 16             ? specials[block]
                  : generator() % 8 == 0 ? specials[generator() % 16]
                                         : 0.01f * static_cast<float>(generator() % 100);
    }
    from_float32(source.data(), values.count(), dtype, values.data());
    for (const Code4 code : {Code4::kNf4, Code4::kFp4})
      for (const int block_size : {64, 512}) {
        INFO(info(dtype).name << " block " << block_size);
        compare_block4(values, code, block_size);
      }
  }
}

TEST_CASE("nested statistics are those of the CPU") {
  SKIP_WITHOUT_GPU();
  const auto cpu = make_cpu_quantizer();
  const auto gpu = make_cuda_quantizer(0);
  for (const std::int64_t count :
       {1, 3, 127, 128, 129, 255, 257, 1000, 4096, 65536, 131072, 262144, 704512, 1409024, 2048001}) {
    INFO("count " << count);
    const Tensor values = random_tensor(DType::kF32, {count}, static_cast<unsigned>(count), 0.03f);
    std::vector<float> absmax(values.as<float>().begin(), values.as<float>().end());
    for (float& value : absmax) value = std::fabs(value);
    const auto size = absmax.size();
    std::vector<std::uint8_t> codes[2] = {std::vector<std::uint8_t>(size, 1),
                                          std::vector<std::uint8_t>(size, 2)};
    std::vector<float> nested[2] = {std::vector<float>((size + 255) / 256),
                                    std::vector<float>((size + 255) / 256, 1.0f)};
    const float means[2] = {cpu->nest(absmax, codes[0], nested[0]), gpu->nest(absmax, codes[1], nested[1])};
    CHECK(std::memcmp(&means[0], &means[1], 4) == 0);
    CHECK(codes[0] == codes[1]);
    CHECK(nested[0] == nested[1]);
  }
}

TEST_CASE("int8 rows are those of the CPU") {
  SKIP_WITHOUT_GPU();
  const auto cpu = make_cpu_quantizer();
  const auto gpu = make_cuda_quantizer(0);
  unsigned seed = 99;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 31}, Shape{17, 256}, Shape{5, 4096}, Shape{64, 11008}}) {
      const Tensor values = random_tensor(dtype, shape, ++seed, 0.05f);
      const auto count = static_cast<std::size_t>(values.count()), rows = static_cast<std::size_t>(shape[0]);
      std::vector<std::int8_t> codes[2] = {std::vector<std::int8_t>(count, 1),
                                           std::vector<std::int8_t>(count, 2)};
      std::vector<float> absmax[2] = {std::vector<float>(rows, -1.0f), std::vector<float>(rows, -2.0f)};
      cpu->int8_rows(values.view(), codes[0], absmax[0]);
      gpu->int8_rows(values.view(), codes[1], absmax[1]);
      INFO(info(dtype).name << " " << shape[0] << "x" << shape[1]);
      CHECK(codes[0] == codes[1]);
      CHECK(absmax[0] == absmax[1]);
    }
}

}  // namespace
}  // namespace qtool
