// Every family's sample model through the one forward pass on the GPU: a prompt, then token by token, so that
// steps are run, recorded and replayed.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>

#include "core/cpu/cpu_backend.h"
#include "core/model/transformer.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"
#include "formats/weights_io.h"
#include "test/cuda/gpu.h"
#include "test/support/logits.h"
#include "test/support/paths.h"

namespace qtool {
namespace {

constexpr std::size_t kPrompt = 24;  // of 40 tokens: beyond the windows, which are 16 at most

struct Sample {
  std::string folder;
  std::vector<std::int32_t> ids;
  std::vector<float> logits;  // transformers', float32, of all ids at once
};

std::vector<Sample> samples() {
  std::vector<Sample> found;
  for (const auto& entry : std::filesystem::directory_iterator(test::data("families"))) {
    const std::string reference = entry.path().string() + "/_logits.safetensors";
    if (!std::filesystem::exists(reference)) continue;
    const auto ids = test::read_reference<std::int64_t>(reference).at("ids");
    found.push_back({entry.path().string(),
                     {ids.begin(), ids.end()},
                     test::read_reference<float>(reference).at("logits")});
  }
  std::ranges::sort(found, {}, &Sample::folder);
  return found;
}

std::vector<float> logits_of(const Sample& sample, Backend& backend, DType type) {
  const Checkpoint checkpoint = Checkpoint::open(sample.folder);
  const auto source = make_weight_source(checkpoint, nullptr, nullptr);
  const auto tokens = static_cast<std::int64_t>(sample.ids.size());
  Transformer model(model_spec_of(checkpoint), backend, *source,
                    {type, type, type, {1, tokens, tokens, tokens}}, {});
  std::vector<float> all;
  std::vector<std::int64_t> rows;
  for (std::size_t done = 0; done < sample.ids.size();) {
    const std::size_t count = done == 0 ? kPrompt : 1;
    const Segment segment{0, static_cast<std::int64_t>(done), static_cast<std::int64_t>(count)};
    model.forward(std::span(&segment, 1), std::span(sample.ids).subspan(done, count));
    rows.resize(count);
    for (std::size_t i = 0; i < count; ++i) rows[i] = static_cast<std::int64_t>(i);
    const auto logits = model.logits(rows);
    all.insert(all.end(), logits.begin(), logits.end());
    done += count;
  }
  return all;
}

// Root mean square of the differences between log-probabilities.
double spread(std::span<const float> found, std::span<const float> expected, std::size_t vocab) {
  double sum = 0.0;
  for (std::size_t at = 0; at < found.size(); at += vocab) {
    const double a = log_sum_exp(found.subspan(at, vocab)), b = log_sum_exp(expected.subspan(at, vocab));
    for (std::size_t i = at; i < at + vocab; ++i) {
      const double difference = (double{found[i]} - a) - (double{expected[i]} - b);
      sum += difference * difference;
    }
  }
  return std::sqrt(sum / static_cast<double>(found.size()));
}

// Float32 sums in another order, nothing else: 1e-3 is what is asked for, 1e-4 what it keeps.
TEST_CASE("every family in float32 is the CPU's and transformers'") {
  SKIP_WITHOUT_GPU();
  const auto cpu = make_cpu_backend(2), gpu = make_cuda_backend(0);
  double worst = 0.0;
  std::size_t compared = 0;
  for (const Sample& sample : samples()) {
    INFO(sample.folder);
    const std::size_t vocab = sample.logits.size() / sample.ids.size();
    const auto found = logits_of(sample, *gpu, DType::kF32);
    const double from_cpu = test::worst_row(found, logits_of(sample, *cpu, DType::kF32), vocab);
    CHECK(from_cpu < 1e-4);
    worst = std::max(worst, from_cpu);
    // Where frequencies depend on the length, pieces of a prompt are rotated otherwise than all of it.
    if (!sample.folder.ends_with("longrope")) CHECK(test::worst_row(found, sample.logits, vocab) < 1e-4);
    ++compared;
  }
  std::cout << compared << " families, float32: at most " << worst << " from the CPU\n";
  CHECK(compared >= 50);
}

// Both sides round the inputs of products, keys and values to bfloat16. The GPU also rounds what it writes
// between operations: results of products and attention, gates, norms. These are as many roundings again of
// the same size, so that errors grow by less than 2. A router's choice can fall otherwise for a rounding,
// on either side: models with experts are held to the size of the difference that one choice makes.
TEST_CASE("every family in bfloat16 is as near float32 as its roundings allow") {
  SKIP_WITHOUT_GPU();
  const auto cpu = make_cpu_backend(2), gpu = make_cuda_backend(0);
  double worst = 0.0;
  for (const Sample& sample : samples()) {
    INFO(sample.folder);
    const std::size_t vocab = sample.logits.size() / sample.ids.size();
    const auto truth = logits_of(sample, *cpu, DType::kF32);
    const double rounding = spread(logits_of(sample, *cpu, DType::kBF16), truth, vocab);
    const double found = spread(logits_of(sample, *gpu, DType::kBF16), truth, vocab);
    std::cout << std::filesystem::path(sample.folder).filename().string() << " bfloat16: " << found
              << " from float32, the CPU " << rounding << "\n";
    CHECK(found < 2.0 * rounding);
    worst = std::max(worst, found / rounding);
  }
  std::cout << "bfloat16: at most " << worst << " times the CPU's distance\n";
}

TEST_CASE("the same steps give the same bits") {
  SKIP_WITHOUT_GPU();
  const auto gpu = make_cuda_backend(0);
  for (const char* name : {"gemma2", "mixtral", "falcon_rw"}) {
    const std::string folder = test::data("families/" + std::string(name));
    const auto ids = test::read_reference<std::int64_t>(folder + "/_logits.safetensors").at("ids");
    const Sample sample{folder, {ids.begin(), ids.end()}, {}};
    for (const DType type : {DType::kF32, DType::kBF16}) {
      INFO(name << " " << info(type).name);
      CHECK(logits_of(sample, *gpu, type) == logits_of(sample, *gpu, type));
    }
  }
}

}  // namespace
}  // namespace qtool
