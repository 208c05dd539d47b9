#include "core/quant/torch_mean.h"

#include <algorithm>
#include <cmath>

#include "test/core/quant/quant_vectors.h"

namespace {

using namespace qtool::test;

TEST_CASE("means are those of torch on an H100, for every measured size") {
  const auto records = vectors_of("mean");
  REQUIRE(records.size() == 375);
  std::size_t longest = 0;
  for (const auto& record : records) longest = std::max<std::size_t>(longest, std::stoul(record[0]));
  std::vector<float> values(longest);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = test_mean_value(i);
  for (const auto& record : records) {
    const std::size_t count = std::stoul(record[0]);
    INFO(count << " values");
    CHECK(bits_of(qtool::torch_cuda_mean({values.data(), count})) == bits_of(float_from_hex(record[1])));
  }
}

TEST_CASE("means of nothing, NaN and infinity") {
  CHECK(std::isnan(qtool::torch_cuda_mean({})));
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values{1.0f, infinity, 2.0f};
  CHECK(qtool::torch_cuda_mean(values) == infinity);
}

TEST_CASE("a smaller GPU adds a very long tensor in another order") {
  std::vector<float> values(5000000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = test_mean_value(i);
  CHECK(bits_of(qtool::torch_cuda_mean(values)) == 0x3de138a2);
  CHECK(bits_of(qtool::torch_cuda_mean(values, {40, 1024})) == 0x3de138a4);  // T4
}

}  // namespace
