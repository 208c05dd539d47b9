// The small operations and attention against the CPU's, on the same inputs.
#include <algorithm>

#include "core/cpu/cpu_backend.h"
#include "test/cuda/gpu.h"

namespace qtool {
namespace {

using test::copy_of;
using test::floats;
using test::random_tensor;

// One backend's side of a comparison.
struct Side {
  std::unique_ptr<Backend> backend;

  std::unique_ptr<Backend::Array> array(const Tensor& values) const {
    const auto table = backend->make_table(copy_of(values));
    std::vector<std::int32_t> ids(static_cast<std::size_t>(values.shape()[0]));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
    auto made = backend->make_array(values.shape()[0], values.shape()[1]);
    backend->embed(*table, ids, *made);
    return made;
  }
  // The same through an identity matrix: values of `type`, as a linear layer
  // leaves them.
  std::unique_ptr<Backend::Array> typed(const Tensor& values, DType type) const {
    const std::int64_t cols = values.shape()[1];
    Tensor identity(DType::kF32, {cols, cols});
    std::fill(identity.as<float>().begin(), identity.as<float>().end(), 0.0f);
    for (std::int64_t i = 0; i < cols; ++i)
      identity.as<float>()[static_cast<std::size_t>(i * cols + i)] = 1.0f;
    const auto linear = backend->make_linear(DenseWeight{std::move(identity)}, std::nullopt, type);
    const auto input = array(values);
    auto made = backend->make_array(values.shape()[0], cols);
    backend->linear(*input, *linear, values.shape()[0], *made);
    return made;
  }
  std::vector<float> read(const Backend::Array& made, std::int64_t rows, std::int64_t cols) const {
    std::vector<float> result(static_cast<std::size_t>(rows * cols));
    backend->read(made, rows, result);
    return result;
  }
};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return std::sqrt(difference / (size + 1e-30));
}

double tolerance(DType type) { return type == DType::kF32 ? 2e-6 : type == DType::kF16 ? 1e-3 : 8e-3; }

TEST_CASE("embed, norm, gate, add and gather are the CPU's") {
  SKIP_WITHOUT_GPU();
  const Side cpu{make_cpu_backend(1)}, gpu{make_cuda_backend(0)};
  for (const Shape& shape : {Shape{1, 8}, Shape{3, 100}, Shape{5, 4096}, Shape{2, 9000}}) {
    const Tensor x = random_tensor(DType::kF32, shape, 1),
                 weight = random_tensor(DType::kBF16, {shape[1]}, 2);
    std::vector<float> results[2];
    for (const Side* side : {&cpu, &gpu}) {
      Backend& backend = *side->backend;
      const auto input = side->array(x);
      const auto norm = backend.make_table(copy_of(weight));
      const auto normed = backend.make_array(shape[0], shape[1]), up = backend.make_array(shape[0], shape[1]);
      auto& result = results[side == &gpu];
      backend.rms_norm(*input, *norm, 1e-5f, shape[0], *normed);
      backend.rms_norm(*input, *norm, 1e-1f, shape[0], *up);
      for (const Activation activation :
           {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh, Activation::kRelu}) {
        backend.gate(*normed, *up, activation, shape[0]);
        backend.add(*input, *normed, shape[0]);
      }
      const std::int64_t rows[] = {shape[0] - 1, 0};
      const auto picked = backend.make_array(2, shape[1]);
      backend.gather(*input, rows, *picked);
      result = side->read(*picked, 2, shape[1]);
    }
    INFO(shape[0] << "x" << shape[1]);
    CHECK(distance(results[1], results[0]) < 2e-6);
  }
}

struct AttentionCase {
  int heads, kv_heads, head_dim, rotary_dim;
  std::vector<Segment> before, segments;  // filled first; then compared
};

std::vector<float> attend(const Side& side, const AttentionCase& c, DType type) {
  Backend& backend = *side.backend;
  constexpr std::int64_t kPositions = 700;
  constexpr int kSequences = 5;
  const auto cache = backend.make_cache(2, kSequences, kPositions, c.kv_heads, c.head_dim, type);
  const auto rope = backend.make_rope(kPositions, c.rotary_dim);
  const Tensor angles = random_tensor(DType::kF32, {kPositions * (c.rotary_dim / 2)}, 3);
  std::vector<float> cos = floats(angles), sin = cos;
  for (std::size_t i = 0; i < cos.size(); ++i) {
    sin[i] = std::sin(cos[i]);
    cos[i] = std::cos(cos[i]);
  }
  backend.set_rope(*rope, 0, cos, sin);
  std::vector<float> result;
  unsigned seed = 20;
  for (const auto* step : {&c.before, &c.segments}) {
    std::int64_t rows = 0;
    for (const Segment& segment : *step) rows += segment.tokens;
    if (rows == 0) continue;
    const auto q = side.typed(random_tensor(DType::kF32, {rows, c.heads * c.head_dim}, ++seed), type);
    const auto k = side.typed(random_tensor(DType::kF32, {rows, c.kv_heads * c.head_dim}, ++seed), type);
    const auto v = side.typed(random_tensor(DType::kF32, {rows, c.kv_heads * c.head_dim}, ++seed), type);
    const auto out = backend.make_array(rows, c.heads * c.head_dim);
    backend.rope_append(*q, *k, *v, *rope, c.heads, *step, 1, *cache);
    backend.attention(*q, *cache, 1, c.heads, 1.0f / std::sqrt(static_cast<float>(c.head_dim)), *step, *out);
    result = side.read(*out, rows, c.heads * c.head_dim);
  }
  return result;
}

TEST_CASE("attention is the CPU's") {
  SKIP_WITHOUT_GPU();
  const Side cpu{make_cpu_backend(2)}, gpu{make_cuda_backend(0)};
  const std::vector<AttentionCase> cases{
      {2, 2, 64, 64, {}, {{0, 0, 1}}},
      {4, 2, 128, 128, {{1, 0, 300}}, {{1, 300, 1}}},
      {4, 4, 128, 64, {{0, 0, 100}, {1, 0, 37}, {4, 0, 513}}, {{0, 100, 1}, {1, 37, 1}, {4, 513, 1}}},
      {2, 1, 64, 32, {{2, 0, 77}}, {{2, 77, 200}}},
      {2, 2, 128, 128, {}, {{0, 0, 500}, {3, 0, 129}}},
      {3, 1, 80, 32, {{0, 0, 20}}, {{0, 20, 9}}},
      {2, 2, 256, 256, {{0, 0, 40}}, {{0, 40, 1}}},
      {2, 2, 32, 16, {}, {{0, 0, 70}}},
  };
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const AttentionCase& c : cases) {
      INFO(info(type).name << " heads " << c.heads << "/" << c.kv_heads << " of " << c.head_dim << ", tokens "
                           << c.segments[0].tokens);
      CHECK(distance(attend(gpu, c, type), attend(cpu, c, type)) < tolerance(type));
    }
}

}  // namespace
}  // namespace qtool
