// How fast linear layers run on this machine: decoding one token against the memory's bandwidth, prompts
// against nothing but the clock. The weights are random and larger than any cache.
#include <algorithm>
#include <array>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <span>
#include <sys/mman.h>
#include <thread>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "core/model/backend.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/weight.h"

namespace qtool {
namespace {

constexpr std::int64_t kBytes = std::int64_t{1} << 30;
constexpr std::int64_t kIn = 4096;
constexpr std::int64_t kOut = 11008;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Fills a tensor with bytes that look random.
void scramble(Tensor& tensor, std::uint64_t seed) {
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (std::byte& byte : tensor.as<std::byte>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
}

Weight block4_weight(bool nested, std::uint64_t seed) {
  Block4Weight weight;
  weight.shape = {kOut, kIn};
  weight.packed = Tensor(DType::kU8, {kOut * kIn / 2, 1});
  scramble(weight.packed, seed);
  const std::int64_t blocks = kOut * kIn / weight.block_size;
  weight.absmax = Tensor(nested ? DType::kU8 : DType::kF32, {blocks});
  if (nested) {
    scramble(weight.absmax, seed + 1);
    weight.nested_absmax = Tensor(DType::kF32, {(blocks + 255) / 256});
    std::ranges::fill(weight.nested_absmax.as<float>(), 0.02f);
    weight.nested_quant_map = Tensor(DType::kF32, {256});
    std::ranges::copy(kDynamicMap, weight.nested_quant_map.as<float>().begin());
    weight.nested_offset = 0.05f;
  } else {
    std::ranges::fill(weight.absmax.as<float>(), 0.05f);
  }
  return weight;
}

Weight int8_weight(std::uint64_t seed) {
  Int8Weight weight;
  weight.codes = Tensor(DType::kI8, {kOut, kIn});
  scramble(weight.codes, seed);
  weight.row_absmax = Tensor(DType::kF32, {kOut});
  std::ranges::fill(weight.row_absmax.as<float>(), 0.05f);
  return weight;
}

Weight dense_weight(std::uint64_t seed) {
  DenseWeight weight{Tensor(DType::kBF16, {kOut, kIn})};
  scramble(weight.values, seed);
  for (std::uint16_t& value : weight.values.as<std::uint16_t>()) value = (value & 0x80ffu) | 0x3c00u;
  return weight;
}

// Some layers of one kind that together fill `bytes`, and inputs for them.
struct Layers {
  std::unique_ptr<Backend> backend = make_cpu_backend(0);
  std::vector<std::unique_ptr<Backend::Linear>> layers;
  std::unique_ptr<Backend::Array> x, out;
  std::int64_t bytes = 0;

  template <typename MakeWeight>
  Layers(std::int64_t wanted_bytes, std::int64_t tokens, DType compute, const MakeWeight& make_weight) {
    std::uint64_t seed = 1;
    while (bytes < wanted_bytes) {
      Weight weight = make_weight(seed++);
      layers.push_back(backend->make_linear(std::move(weight), std::nullopt, compute));
      bytes += layers.back()->bytes();
    }
    x = backend->make_array(tokens, kIn);
    out = backend->make_array(tokens, kOut);
    const auto table = backend->make_table([&] {
      Tensor values(DType::kF32, {1, kIn});
      for (std::int64_t k = 0; k < kIn; ++k)
        values.as<float>()[static_cast<std::size_t>(k)] = 0.01f * static_cast<float>(k % 37 - 18);
      return values;
    }());
    const std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens), 0);
    backend->embed(*table, ids, *x);
  }

  double run(std::int64_t tokens) {
    const double start = seconds();
    for (const auto& layer : layers) backend->linear(*x, *layer, tokens, *out);
    return seconds() - start;
  }
};

// Memory in large pages where the system grants them, which read faster than small ones: the machine at its
// best.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : data_(static_cast<std::uint64_t*>(std::aligned_alloc(kLargePage, bytes))) {
    madvise(data_.get(), bytes, MADV_HUGEPAGE);
    words_ = {data_.get(), bytes / sizeof(std::uint64_t)};
    std::ranges::fill(words_, 1);
  }
  std::span<const std::uint64_t> words() const { return words_; }

 private:
  static constexpr std::size_t kLargePage = std::size_t{2} << 20;
  struct Free {
    void operator()(std::uint64_t* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<std::uint64_t, Free> data_;
  std::span<std::uint64_t> words_;
};

// Seconds to read memory with all processors: the bandwidth that decoding is compared with.
double read_memory(std::span<const std::uint64_t> words) {
  constexpr std::size_t kAhead = 256;  // words that are fetched before they are read: 2 KB
  const std::size_t readers = std::max(1u, std::thread::hardware_concurrency());
  const std::size_t share = words.size() / kAhead / readers * kAhead;
  const double start = seconds();
  std::vector<std::jthread> threads;
  for (std::size_t reader = 0; reader < readers; ++reader) {
    threads.emplace_back([words, share, reader] {
      std::array<std::uint64_t, 8> partial{};
      const std::uint64_t* mine = words.data() + reader * share;
      for (std::size_t i = 0; i < share; i += partial.size()) {
        __builtin_prefetch(mine + i + kAhead);
        for (std::size_t lane = 0; lane < partial.size(); ++lane) partial[lane] += mine[i + lane];
      }
      benchmark::DoNotOptimize(partial);
    });
  }
  threads.clear();  // joins
  return seconds() - start;
}

// One token through 1 GB of layers, each pass beside one plain read of 1 GB, so that both see the same
// machine.
template <typename MakeWeight>
void decode(benchmark::State& state, DType compute, std::int64_t tokens, const MakeWeight& make_weight) {
  Layers layers(kBytes, tokens, compute, make_weight);
  const Memory memory(static_cast<std::size_t>(kBytes));
  double best_run = 1e9;
  double best_read = 1e9;
  for (auto _ : state) {
    best_read = std::min(best_read, read_memory(memory.words()));
    const double time = layers.run(tokens);
    best_run = std::min(best_run, time);
    state.SetIterationTime(time);
  }
  const double decode_gb = static_cast<double>(layers.bytes) / best_run * 1e-9;
  const double read_gb = static_cast<double>(kBytes) / best_read * 1e-9;
  state.counters["weights_GB_per_s"] = decode_gb;
  state.counters["read_GB_per_s"] = read_gb;
  state.counters["share_of_read"] = decode_gb / read_gb;
  state.SetLabel(layers.backend->name());
}

template <typename MakeWeight>
void prefill(benchmark::State& state, DType compute, const MakeWeight& make_weight) {
  const std::int64_t tokens = state.range(0);
  Layers layers(1, tokens, compute, make_weight);
  double best = 1e9;
  for (auto _ : state) {
    const double time = layers.run(tokens);
    best = std::min(best, time);
    state.SetIterationTime(time);
  }
  state.counters["GFLOP_per_s"] = 2e-9 * static_cast<double>(tokens * kIn * kOut) / best;
  state.SetLabel(layers.backend->name());
}

const auto nf4 = [](std::uint64_t seed) { return block4_weight(false, seed); };
const auto nf4_dq = [](std::uint64_t seed) { return block4_weight(true, seed); };
const auto int8 = [](std::uint64_t seed) { return int8_weight(seed); };
const auto dense = [](std::uint64_t seed) { return dense_weight(seed); };

void decode_nf4_dq_bf16(benchmark::State& state) { decode(state, DType::kBF16, state.range(0), nf4_dq); }
void decode_nf4_dq_f32(benchmark::State& state) { decode(state, DType::kF32, state.range(0), nf4_dq); }
void decode_nf4_dq_f16(benchmark::State& state) { decode(state, DType::kF16, state.range(0), nf4_dq); }
void decode_nf4_bf16(benchmark::State& state) { decode(state, DType::kBF16, state.range(0), nf4); }
void decode_int8(benchmark::State& state) { decode(state, DType::kBF16, state.range(0), int8); }
void decode_dense_bf16(benchmark::State& state) { decode(state, DType::kBF16, state.range(0), dense); }
void prefill_nf4_dq_bf16(benchmark::State& state) { prefill(state, DType::kBF16, nf4_dq); }
void prefill_nf4_dq_f32(benchmark::State& state) { prefill(state, DType::kF32, nf4_dq); }
void prefill_int8(benchmark::State& state) { prefill(state, DType::kBF16, int8); }
void prefill_dense_bf16(benchmark::State& state) { prefill(state, DType::kBF16, dense); }

BENCHMARK(decode_nf4_dq_bf16)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->UseManualTime()->Iterations(10);
BENCHMARK(decode_nf4_dq_f32)->Arg(1)->Arg(4)->UseManualTime()->Iterations(10);
BENCHMARK(decode_nf4_dq_f16)->Arg(1)->UseManualTime()->Iterations(10);
BENCHMARK(decode_nf4_bf16)->Arg(1)->UseManualTime()->Iterations(10);
BENCHMARK(decode_int8)->Arg(1)->UseManualTime()->Iterations(10);
BENCHMARK(decode_dense_bf16)->Arg(1)->UseManualTime()->Iterations(10);
BENCHMARK(prefill_nf4_dq_bf16)->Arg(16)->Arg(512)->UseManualTime()->Iterations(5);
BENCHMARK(prefill_nf4_dq_f32)->Arg(512)->UseManualTime()->Iterations(5);
BENCHMARK(prefill_int8)->Arg(512)->UseManualTime()->Iterations(5);
BENCHMARK(prefill_dense_bf16)->Arg(512)->UseManualTime()->Iterations(5);

}  // namespace
}  // namespace qtool
