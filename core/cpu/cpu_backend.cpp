#include "core/cpu/cpu_backend.h"

#include <algorithm>
#include <omp.h>
#include <string>
#include <utility>
#include <vector>

#include "core/convert.h"
#include "core/cpu/attention.h"
#include "core/cpu/cpu_kernels.h"
#include "core/cpu/linear.h"
#include "core/cpu/pointwise.h"
#include "core/cpu/residents.h"
#include "core/cpu/threads.h"
#include "core/error.h"
#include "core/machine.h"

namespace qtool {

namespace {

using namespace cpu;

// Memory that is written only later would be granted now and missed then: Linux hands out more than it has.
// So ask first. `what` names the thing in the error.
Tensor allocate(DType dtype, Shape shape, const char* what) {
  std::int64_t bytes = size_of(dtype);
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes))
      throw Error(ExitCode::kMemory, std::string("the size of the ") + what + " is beyond any memory");
  const std::int64_t available = bytes < (1 << 20) ? bytes : available_memory();
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
        threads_(start_threads(threads > 0 ? threads : omp_get_max_threads())),
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

  std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim, RopePairs pairs) override {
    auto rope = std::make_unique<CpuRope>();
    rope->cos = allocate(DType::kF32, {positions, rotary_dim / 2}, "rotary table");
    rope->sin = allocate(DType::kF32, {positions, rotary_dim / 2}, "rotary table");
    rope->positions = positions;
    rope->rotary_dim = rotary_dim;
    rope->pairs = pairs;
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

  void add_positions(Array& x, const Table& positions, std::int64_t first,
                     std::span<const Segment> segments) override {
    auto& to = own<CpuArray>(x);
    const Tensor& values = own<CpuTable>(positions).values;
    require(values.shape().size() == 2 && values.shape()[1] == to.cols, "add_positions' widths agree");
    std::vector<float> position(static_cast<std::size_t>(to.cols));
    std::int64_t row = 0;
    for (const Segment& segment : segments) {
      require(first + segment.position >= 0 &&
                  first + segment.position + segment.tokens <= values.shape()[0] &&
                  (row + segment.tokens) * to.cols <= to.values.count(),
              "add_positions stays within its table");
      for (std::int64_t t = 0; t < segment.tokens; ++t, ++row) {
        const std::int64_t begin = (first + segment.position + t) * to.cols;
        to_float32(values.data() + begin * size_of(values.dtype()), values.dtype(), to.cols, position.data());
        for (std::int64_t i = 0; i < to.cols; ++i) to.row(row)[i] += position[static_cast<std::size_t>(i)];
      }
    }
  }

  void norm(const Array& x, const Norm& norm, std::int64_t rows, Array& out) override {
    const auto& from = own<CpuArray>(x);
    auto& to = own<CpuArray>(out);
    require(from.cols == to.cols && rows * to.cols <= to.values.count(), "norm's widths agree");
    run_norm(from, norm, 1, rows, to);
  }

  void norm_groups(Array& x, const Norm& norm, int groups, std::int64_t rows) override {
    auto& values = own<CpuArray>(x);
    require(groups > 0 && values.cols % groups == 0, "norm_groups' pieces fill the row");
    run_norm(values, norm, groups, rows, values);
  }

  void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) override {
    const auto& layer = own<CpuLinear>(weight);
    const auto& from = own<CpuArray>(x);
    auto& to = own<CpuArray>(out);
    require(from.cols == layer.in && to.cols == layer.out, "linear's widths agree");
    require(rows * layer.out <= to.values.count(), "linear writes within its output");
    linear_.run(layer, from.row(0), rows, to.row(0));
  }

  void split(const Array& fused, int groups, std::int64_t rows, std::span<Array* const> outs) override {
    const auto& from = own<CpuArray>(fused);
    std::vector<SplitPart> parts;
    std::int64_t cols = 0;
    for (Array* out : outs) {
      auto& to = own<CpuArray>(*out);
      require(groups > 0 && to.cols % groups == 0 && rows * to.cols <= to.values.count(),
              "split's outputs take an equal share of each group");
      parts.push_back({to.row(0), to.cols});
      cols += to.cols;
    }
    require(cols == from.cols && rows * cols <= from.values.count(), "split's widths agree");
    cpu::split(from.row(0), groups, rows, parts);
  }

  void rope_append(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                   std::span<const Segment> segments, int layer, Cache& cache) override {
    auto& target = own<CpuCache>(cache);
    const auto* table = static_cast<const CpuRope*>(rope);
    check_segments(segments, target, layer);
    for (const Segment& segment : segments)
      require(!table || segment.position + segment.tokens <= table->positions,
              "rope_append reads within the rotary table");
    cpu::rope_append(own<CpuArray>(q).row(0), own<CpuArray>(k).row(0), own<CpuArray>(v).row(0), table, heads,
                     segments, layer, threads_, target);
  }

  void attention(const Array& q, const Cache& cache, int layer, int heads, const AttentionOptions& options,
                 std::span<const Segment> segments, Array& out) override {
    const auto& source = own<CpuCache>(cache);
    check_segments(segments, source, layer);
    if (options.slopes) {
      const Tensor& slopes = own<CpuTable>(*options.slopes).values;
      require(slopes.dtype() == DType::kF32 && slopes.count() == heads, "there is a slope for each head");
    }
    cpu::attention(kernels_.functions, own<CpuArray>(q).row(0), source, layer, heads, options, segments,
                   threads_, attention_scratch_, own<CpuArray>(out).row(0));
  }

  void gate(Array& gate, const Array* up, Activation activation, std::int64_t rows) override {
    auto& to = own<CpuArray>(gate);
    cpu::gate(to.row(0), up ? own<CpuArray>(*up).row(0) : nullptr, activation, rows * to.cols, threads_);
  }

  void add(Array& x, const Array& y, float scale, std::int64_t rows) override {
    const float* from = own<CpuArray>(y).row(0);
    const std::span<float> sums = first_rows(x, rows);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += scale * from[i];
  }

  void clear(Array& x, std::int64_t rows) override { std::ranges::fill(first_rows(x, rows), 0.0f); }

  void scale(Array& x, float factor, std::int64_t rows) override {
    for (float& value : first_rows(x, rows)) value *= factor;
  }

  void clamp(Array& x, float limit, std::int64_t rows) override {
    for (float& value : first_rows(x, rows)) value = std::clamp(value, -limit, limit);
  }

  void softcap(Array& x, float cap, std::int64_t rows) override {
    const std::span<float> values = first_rows(x, rows);
    cpu::softcap(values.data(), cap, static_cast<std::int64_t>(values.size()), threads_);
  }

  void scatter_add(const Array& y, std::span<const std::int64_t> rows, std::span<const float> weights,
                   Array& x) override {
    const auto& from = own<CpuArray>(y);
    auto& to = own<CpuArray>(x);
    require(from.cols == to.cols && rows.size() == weights.size(), "scatter_add's widths agree");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float* values = from.row(static_cast<std::int64_t>(i));
      float* sums = to.row(rows[i]);
      for (std::int64_t c = 0; c < to.cols; ++c) sums[c] += weights[i] * values[c];
    }
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

  bool isolate_rows() override {
    linear_.isolate_tokens();
    return true;
  }

 private:
  static std::span<float> first_rows(Array& x, std::int64_t rows) {
    auto& array = own<CpuArray>(x);
    require(rows * array.cols <= array.values.count(), "an operation stays within its array");
    return {array.row(0), static_cast<std::size_t>(rows * array.cols)};
  }

  // Of every one of the `groups` pieces of each row.
  void run_norm(const CpuArray& x, const Norm& norm, int groups, std::int64_t rows, CpuArray& out) {
    cpu::Norm values{norm.kind, norm.eps, nullptr, norm.weight_offset, nullptr};
    if (norm.weight) values.weight = &own<CpuTable>(*norm.weight).values;
    if (norm.bias) values.bias = &own<CpuTable>(*norm.bias).values;
    const std::int64_t width = values.weight ? values.weight->count() : x.cols;
    require((width == x.cols || width == x.cols / groups) && (!values.bias || values.bias->count() == width),
            "a norm's tables have the columns of a piece or of a row");
    cpu::norm(x.row(0), values, groups, rows, x.cols, threads_, out.row(0));
  }

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
