// Values quantized per second on one core, per instruction set: --benchmark_filter=nf4, QTOOL_CPU=... to
// choose.
#include <benchmark/benchmark.h>
#include <cstdint>
#include <random>
#include <vector>

#include "core/convert.h"
#include "core/cpu/cpu_backend.h"

namespace {

using namespace qtool;

constexpr std::int64_t kRows = 1024;
constexpr std::int64_t kColumns = 4096;  // 8 MiB of bfloat16: beyond the second-level cache

Tensor weights(DType dtype) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(kRows * kColumns);
  for (float& value : values) value = normal(random);
  Tensor out(dtype, {kRows, kColumns});
  from_float32(values.data(), out.count(), dtype, out.data());
  return out;
}

void report(benchmark::State& state, std::int64_t values) {
  state.SetItemsProcessed(state.iterations() * values);
  state.SetLabel(name_of(cpu_level()));
}

void block4(benchmark::State& state, Code4 code, DType dtype, int block_size) {
  const Tensor values = weights(dtype);
  const auto quantizer = make_cpu_quantizer();
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(values.count() / 2));
  std::vector<float> absmax(static_cast<std::size_t>(values.count() / block_size));
  for (auto _ : state) {
    quantizer->block4(values.view(), code, block_size, packed, absmax);
    benchmark::ClobberMemory();
  }
  report(state, values.count());
}
BENCHMARK_CAPTURE(block4, nf4_bf16, Code4::kNf4, DType::kBF16, 64);
BENCHMARK_CAPTURE(block4, nf4_bf16_blocks_of_4096, Code4::kNf4, DType::kBF16, 4096);
BENCHMARK_CAPTURE(block4, nf4_f16, Code4::kNf4, DType::kF16, 64);
BENCHMARK_CAPTURE(block4, nf4_f32, Code4::kNf4, DType::kF32, 64);
BENCHMARK_CAPTURE(block4, fp4_bf16, Code4::kFp4, DType::kBF16, 64);
BENCHMARK_CAPTURE(block4, fp4_f16, Code4::kFp4, DType::kF16, 64);
BENCHMARK_CAPTURE(block4, fp4_f32, Code4::kFp4, DType::kF32, 64);

void int8_rows(benchmark::State& state, DType dtype) {
  const Tensor values = weights(dtype);
  const auto quantizer = make_cpu_quantizer();
  std::vector<std::int8_t> codes(static_cast<std::size_t>(values.count()));
  std::vector<float> absmax(kRows);
  for (auto _ : state) {
    quantizer->int8_rows(values.view(), codes, absmax);
    benchmark::ClobberMemory();
  }
  report(state, values.count());
}
BENCHMARK_CAPTURE(int8_rows, bf16, DType::kBF16);
BENCHMARK_CAPTURE(int8_rows, f16, DType::kF16);
BENCHMARK_CAPTURE(int8_rows, f32, DType::kF32);

// Items are absmax values, one for 64 weights.
void nest(benchmark::State& state) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0.02f, 0.1f);
  std::vector<float> absmax(kRows * kColumns / 64);
  for (float& value : absmax) value = uniform(random);
  std::vector<std::uint8_t> codes(absmax.size());
  std::vector<float> nested(absmax.size() / 256);
  const auto quantizer = make_cpu_quantizer();
  for (auto _ : state) benchmark::DoNotOptimize(quantizer->nest(absmax, codes, nested));
  report(state, static_cast<std::int64_t>(absmax.size()));
}
BENCHMARK(nest);

}  // namespace
