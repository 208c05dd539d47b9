#include "core/cpu/cpu_backend.h"

#include <algorithm>
#include <fstream>
#include <omp.h>
#include <string>
#include <utility>

#include "core/convert.h"
#include "core/cpu/attention.h"
#include "core/cpu/cpu_kernels.h"
#include "core/cpu/linear.h"
#include "core/cpu/pointwise.h"
#include "core/cpu/residents.h"
#include "core/error.h"

namespace qtool {

namespace {

using namespace cpu;

// Bytes that the kernel believes it can hand out; a very large number where it does not say.
std::int64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kib = 0;
  std::string unit;
  while (file >> key >> kib >> unit)
    if (key == "MemAvailable:") return kib * 1024;
  return std::int64_t{1} << 62;
}

// Memory that is written only later would be granted now and missed then: Linux hands out more than it has.
// So ask first. `what` names the thing in the error.
Tensor allocate(DType dtype, Shape shape, const char* what) {
  std::int64_t bytes = size_of(dtype);
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes))
      throw Error(ExitCode::kMemory, std::string("the size of the ") + what + " is beyond any memory");
  const std::int64_t available = bytes < (1 << 20) ? bytes : available_bytes();
  if (bytes > available)
    throw Error(ExitCode::kMemory, std::string("the ") + what + " needs " + std::to_string(bytes) +
                                       " bytes, but only " + std::to_string(available) +
                                       " bytes of memory are free");
  return Tensor(dtype, std::move(shape));
}

bool is_activation_type(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

void require_float(DType dtype, const char* what) {
  if (!is_activation_type(dtype))
    throw Error(ExitCode::kUnsupported, std::string(what) + " of type " + std::string(info(dtype).name) +
                                            " is not supported on the CPU; known are F32, F16, BF16");
}

void require(bool holds, const char* what) {
  if (!holds) throw internal_error(std::string("cpu backend: ") + what);
}

// LLM.int8 sums products of two 8-bit codes exactly in 32 bits; 127 * 128 * kMaxInt8Inputs stays below 2^31.
constexpr std::int64_t kMaxInt8Inputs = 131072;

template <typename Concrete, typename Interface>
Concrete& own(Interface& resident) {
  return static_cast<Concrete&>(resident);
}
template <typename Concrete, typename Interface>
const Concrete& own(const Interface& resident) {
  return static_cast<const Concrete&>(resident);
}

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int threads)
      : kernels_(chosen_kernels(cpu_level())),
        threads_(threads > 0 ? threads : omp_get_max_threads()),
        linear_(kernels_.functions, threads_) {}

  std::string name() const override {
    return std::string("cpu: ") + kernels_.name + ", " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }

  std::unique_ptr<Array> make_array(std::int64_t rows, std::int64_t cols) override {
    return std::make_unique<CpuArray>(allocate(DType::kF32, {rows, cols}, "workspace"), cols);
  }

  std::unique_ptr<Linear> make_linear(Weight weight, std::optional<Tensor> bias,
                                      DType compute_dtype) override {
    require_float(compute_dtype, "a compute dtype");
    auto linear = std::make_unique<CpuLinear>();
    const Shape shape = shape_of(weight);
    require(shape.size() == 2, "a linear weight has two dimensions");
    linear->out = shape[0];
    linear->in = shape[1];
    linear->compute = compute_dtype;
    if (const auto* dense = std::get_if<DenseWeight>(&weight))
      require_float(dense->values.dtype(), "a weight");
    if (std::holds_alternative<Int8Weight>(weight) && linear->in > kMaxInt8Inputs)
      throw Error(ExitCode::kUnsupported, "an LLM.int8 weight with " + std::to_string(linear->in) +
                                              " inputs is not supported: the largest number is " +
                                              std::to_string(kMaxInt8Inputs));
    if (bias) {
      require_float(bias->dtype(), "a bias");
      require(bias->count() == linear->out, "a bias has as many values as its weight has rows");
    }
    linear->weight = std::move(weight);
    linear->bias = std::move(bias);
    return linear;
  }

  std::unique_ptr<Table> make_table(Tensor values) override {
    require_float(values.dtype(), "an embedding or norm");
    auto table = std::make_unique<CpuTable>();
    table->values = std::move(values);
    return table;
  }

  std::unique_ptr<Linear> make_tied_head(const Table& embedding, DType compute_dtype) override {
    require_float(compute_dtype, "a compute dtype");
    const Tensor& values = own<CpuTable>(embedding).values;
    require(values.shape().size() == 2, "a tied head needs an embedding of two dimensions");
    auto linear = std::make_unique<CpuLinear>();
    linear->tied = &values;
    linear->out = values.shape()[0];
    linear->in = values.shape()[1];
    linear->compute = compute_dtype;
    return linear;
  }

  std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim) override {
    auto rope = std::make_unique<CpuRope>();
    rope->cos = allocate(DType::kF32, {positions, rotary_dim / 2}, "rotary table");
    rope->sin = allocate(DType::kF32, {positions, rotary_dim / 2}, "rotary table");
    rope->positions = positions;
    rope->rotary_dim = rotary_dim;
    return rope;
  }

  void set_rope(Rope& rope, std::int64_t first_position, std::span<const float> cos,
                std::span<const float> sin) override {
    auto& table = own<CpuRope>(rope);
    const std::int64_t offset = first_position * (table.rotary_dim / 2);
    require(cos.size() == sin.size() && first_position >= 0 &&
                offset + static_cast<std::int64_t>(cos.size()) <= table.cos.count(),
            "set_rope writes within the table");
    std::copy(cos.begin(), cos.end(), table.cos.as<float>().data() + offset);
    std::copy(sin.begin(), sin.end(), table.sin.as<float>().data() + offset);
  }

  std::unique_ptr<Cache> make_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                    int head_dim, DType dtype) override {
    require_float(dtype, "a key/value cache");
    auto cache = std::make_unique<CpuCache>();
    const Shape shape{layers, sequences, kv_heads, positions, head_dim};
    cache->keys = allocate(dtype, shape, "cache of keys");
    cache->values = allocate(dtype, shape, "cache of values");
    cache->layers = layers;
    cache->sequences = sequences;
    cache->positions = positions;
    cache->kv_heads = kv_heads;
    cache->head_dim = head_dim;
    return cache;
  }

  void embed(const Table& embedding, std::span<const std::int32_t> ids, Array& out) override {
    const Tensor& values = own<CpuTable>(embedding).values;
    auto& to = own<CpuArray>(out);
    const std::int64_t vocabulary = values.shape().at(0);
    const std::int64_t cols = values.shape().at(1);
    require(cols == to.cols && static_cast<std::int64_t>(ids.size()) * cols <= to.values.count(),
            "embed writes within its output");
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= vocabulary)
        throw Error(ExitCode::kUsage, "token id " + std::to_string(ids[i]) +
                                          " is outside the vocabulary of " + std::to_string(vocabulary) +
                                          " tokens");
      to_float32(values.data() + ids[i] * cols * size_of(values.dtype()), values.dtype(), cols,
                 to.row(static_cast<std::int64_t>(i)));
    }
  }

  void rms_norm(const Array& x, const Table& weight, float eps, std::int64_t rows, Array& out) override {
    const auto& from = own<CpuArray>(x);
    auto& to = own<CpuArray>(out);
    const Tensor& values = own<CpuTable>(weight).values;
    require(from.cols == to.cols && values.count() == from.cols, "rms_norm's widths agree");
    cpu::rms_norm(from.row(0), values, eps, rows, from.cols, threads_, to.row(0));
  }

  void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) override {
    const auto& layer = own<CpuLinear>(weight);
    const auto& from = own<CpuArray>(x);
    auto& to = own<CpuArray>(out);
    require(from.cols == layer.in && to.cols == layer.out, "linear's widths agree");
    require(rows * layer.out <= to.values.count(), "linear writes within its output");
    linear_.run(layer, from.row(0), rows, to.row(0));
  }

  void rope_append(Array& q, Array& k, const Array& v, const Rope& rope, int heads,
                   std::span<const Segment> segments, int layer, Cache& cache) override {
    auto& target = own<CpuCache>(cache);
    const auto& table = own<CpuRope>(rope);
    check_segments(segments, target, layer);
    for (const Segment& segment : segments)
      require(segment.position + segment.tokens <= table.positions,
              "rope_append reads within the rotary table");
    cpu::rope_append(own<CpuArray>(q).row(0), own<CpuArray>(k).row(0), own<CpuArray>(v).row(0), table, heads,
                     segments, layer, threads_, target);
  }

  void attention(const Array& q, const Cache& cache, int layer, int heads, float scale,
                 std::span<const Segment> segments, Array& out) override {
    const auto& source = own<CpuCache>(cache);
    check_segments(segments, source, layer);
    cpu::attention(kernels_.functions, own<CpuArray>(q).row(0), source, layer, heads, scale, segments,
                   threads_, attention_scratch_, own<CpuArray>(out).row(0));
  }

  void gate(Array& gate, const Array& up, Activation activation, std::int64_t rows) override {
    auto& to = own<CpuArray>(gate);
    cpu::gate(to.row(0), own<CpuArray>(up).row(0), activation, rows * to.cols, threads_);
  }

  void add(Array& x, const Array& y, std::int64_t rows) override {
    auto& to = own<CpuArray>(x);
    const float* from = own<CpuArray>(y).row(0);
    float* sums = to.row(0);
    for (std::int64_t i = 0; i < rows * to.cols; ++i) sums[i] += from[i];
  }

  void gather(const Array& x, std::span<const std::int64_t> rows, Array& out) override {
    const auto& from = own<CpuArray>(x);
    auto& to = own<CpuArray>(out);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(from.row(rows[i]), from.cols, to.row(static_cast<std::int64_t>(i)));
  }

  void read(const Array& x, std::int64_t rows, std::span<float> out) override {
    const auto& from = own<CpuArray>(x);
    require(static_cast<std::int64_t>(out.size()) >= rows * from.cols, "read fits its output");
    std::copy_n(from.row(0), rows * from.cols, out.data());
  }

 private:
  static void check_segments(std::span<const Segment> segments, const CpuCache& cache, int layer) {
    require(layer >= 0 && layer < cache.layers, "the layer is in the cache");
    for (const Segment& segment : segments)
      require(segment.sequence >= 0 && segment.sequence < cache.sequences && segment.position >= 0 &&
                  segment.tokens >= 0 && segment.position + segment.tokens <= cache.positions,
              "a segment lies within the cache");
  }

  const CpuKernels& kernels_;
  int threads_;
  LinearRunner linear_;
  Scratch attention_scratch_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) { return std::make_unique<CpuBackend>(threads); }

}  // namespace qtool
