// The Backend interface on the GPU: checks arguments, keeps what lies where,
// and hands over to the kernels.
#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/convert.h"
#include "core/error.h"
#include "cuda/attention.h"
#include "cuda/device.h"
#include "cuda/linear.h"
#include "cuda/pointwise.h"
#include "cuda/recordings.h"
#include "cuda/residents.h"
#include "cuda/step_inputs.h"
#include "cuda/tiles4.h"

namespace qtool {
namespace {

using namespace cuda;

void require(bool holds, const char* what) {
  if (!holds) throw internal_error(std::string("cuda backend: ") + what);
}

void require_float(DType dtype, const char* what) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16)
    throw Error(ExitCode::kUnsupported, std::string(what) + " of type " + std::string(info(dtype).name) +
                                            " is not supported on the GPU; known are F32, F16, BF16");
}

constexpr std::int64_t kMaxInt8Inputs = 131072;  // 127 * 128 * inputs stays below 2^31
constexpr int kMaxHeadDim = 256;

template <typename Concrete, typename Interface>
auto& own(Interface& resident) {
  if constexpr (std::is_const_v<Interface>)
    return static_cast<const Concrete&>(resident);
  else
    return static_cast<Concrete&>(resident);
}

Values values_of(const Backend::Table& table) {
  const auto& own_table = own<CudaTable>(table);
  return {own_table.memory.as<void>(), own_table.dtype};
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index)
      : device_(open_device(index)), inputs_(stream_.get()), linear_(device_, stream_.get()) {}

  std::string name() const override { return "cuda:" + std::to_string(device_.index) + ": " + device_.name; }

  std::unique_ptr<Array> make_array(std::int64_t rows, std::int64_t cols) override {
    return std::make_unique<CudaArray>(rows, cols);
  }

  std::unique_ptr<Linear> make_linear(Weight weight, std::optional<Tensor> bias,
                                      DType compute_dtype) override {
    require_float(compute_dtype, "a compute dtype");
    auto linear = std::make_unique<CudaLinear>();
    const Shape shape = shape_of(weight);
    require(shape.size() == 2, "a linear weight has two dimensions");
    linear->out = shape[0];
    linear->in = shape[1];
    linear->compute = compute_dtype;
    if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
      require_float(dense->values.dtype(), "a weight");
      linear->form = WeightForm::kDense;
      linear->dense_dtype = dense->values.dtype();
      linear->codes = uploaded(dense->values);
    } else if (const auto* int8 = std::get_if<Int8Weight>(&weight)) {
      if (linear->in > kMaxInt8Inputs)
        throw Error(ExitCode::kUnsupported, "an LLM.int8 weight with " + std::to_string(linear->in) +
                                                " inputs is not supported: the largest number is " +
                                                std::to_string(kMaxInt8Inputs));
      linear->form = WeightForm::kInt8;
      linear->threshold = int8->threshold;
      linear->codes = uploaded(int8->codes);
      linear->scales = uploaded(int8->row_absmax);
    } else {
      const auto& block4 = std::get<Block4Weight>(weight);
      linear->form = form_of(block4, compute_dtype, device_.capability);
      upload_block4(block4, *linear, stream_.get());
    }
    if (bias) {
      require_float(bias->dtype(), "a bias");
      require(bias->count() == linear->out, "a bias has as many values as its weight has rows");
      linear->bias = uploaded(converted(converted(bias->view(), compute_dtype).view(), DType::kF32));
    }
    note_compute(compute_dtype);
    return linear;
  }

  std::unique_ptr<Table> make_table(Tensor values) override {
    require_float(values.dtype(), "an embedding or norm");
    auto table = std::make_unique<CudaTable>();
    table->dtype = values.dtype();
    table->cols = values.shape().back();
    table->rows = values.count() / table->cols;
    table->memory = uploaded(values);
    return table;
  }

  std::unique_ptr<Linear> make_tied_head(const Table& embedding, DType compute_dtype) override {
    require_float(compute_dtype, "a compute dtype");
    const auto& table = own<CudaTable>(embedding);
    auto linear = std::make_unique<CudaLinear>();
    linear->form = WeightForm::kDense;
    linear->tied = table.memory.as<void>();
    linear->dense_dtype = table.dtype;
    linear->out = table.rows;
    linear->in = table.cols;
    linear->compute = compute_dtype;
    note_compute(compute_dtype);
    return linear;
  }

  std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim) override {
    auto rope = std::make_unique<CudaRope>();
    const std::int64_t bytes = positions * (rotary_dim / 2) * 4;
    rope->cos = Buffer(Place::kDevice, bytes);
    rope->sin = Buffer(Place::kDevice, bytes);
    rope->positions = positions;
    rope->rotary_dim = rotary_dim;
    return rope;
  }

  void set_rope(Rope& rope, std::int64_t first_position, std::span<const float> cos,
                std::span<const float> sin) override {
    const auto& table = own<CudaRope>(rope);
    const std::int64_t offset = first_position * (table.rotary_dim / 2);
    const auto bytes = static_cast<std::int64_t>(cos.size_bytes());
    require(cos.size() == sin.size() && first_position >= 0 && offset * 4 + bytes <= table.cos.bytes(),
            "set_rope writes within the table");
    send(table.cos.as<float>() + offset, cos.data(), bytes);
    send(table.sin.as<float>() + offset, sin.data(), bytes);
  }

  std::unique_ptr<Cache> make_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                    int head_dim, DType dtype) override {
    require_float(dtype, "a key/value cache");
    if (head_dim > kMaxHeadDim)
      throw Error(ExitCode::kUnsupported,
                  "heads of " + std::to_string(head_dim) +
                      " columns are not supported on the GPU: the largest number is " +
                      std::to_string(kMaxHeadDim));
    auto cache = std::make_unique<CudaCache>();
    const std::int64_t bytes =
        std::int64_t{layers} * sequences * positions * kv_heads * head_dim * size_of(dtype);
    cache->keys = Buffer(Place::kDevice, bytes);
    cache->values = Buffer(Place::kDevice, bytes);
    cache->dtype = dtype;
    cache->layers = layers;
    cache->sequences = sequences;
    cache->positions = positions;
    cache->kv_heads = kv_heads;
    cache->head_dim = head_dim;
    return cache;
  }

  void embed(const Table& embedding, std::span<const std::int32_t> ids, Array& out) override {
    const auto& table = own<CudaTable>(embedding);
    auto& to = own<CudaArray>(out);
    const auto rows = static_cast<std::int64_t>(ids.size());
    require(table.cols == to.cols && rows <= to.rows, "embed writes within its output");
    for (const std::int32_t id : ids)
      if (id < 0 || id >= table.rows)
        throw Error(ExitCode::kUsage, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                          std::to_string(table.rows) + " tokens");
    inputs_.set_ids(ids);
    to.dtype = DType::kF32;
    if (rows > 0)
      cuda::embed(values_of(embedding), table.cols, inputs_.ids(), rows, to.memory.as<float>(),
                  stream_.get());
  }

  void rms_norm(const Array& x, const Table& weight, float eps, std::int64_t rows, Array& out) override {
    const auto& from = own<CudaArray>(x);
    auto& to = own<CudaArray>(out);
    require(from.cols == to.cols && own<CudaTable>(weight).cols == from.cols && from.dtype == DType::kF32,
            "rms_norm's widths agree");
    to.dtype = activations_;
    cuda::rms_norm(from.memory.as<float>(), values_of(weight), eps, rows, from.cols, to.values(),
                   stream_.get());
  }

  void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) override {
    const CudaLinear* linears[] = {&own<CudaLinear>(weight)};
    CudaArray* outs[] = {&own<CudaArray>(out)};
    const auto& from = own<CudaArray>(x);
    require(from.cols == linears[0]->in && outs[0]->cols == linears[0]->out && rows <= outs[0]->rows,
            "linear's widths agree");
    linear_.run({.x = from.values()}, linears, rows, outs);
  }

  void rope_append(Array& q, Array& k, const Array& v, const Rope& rope, int heads,
                   std::span<const Segment> segments, int layer, Cache& cache) override {
    auto& target = own<CudaCache>(cache);
    const auto& table = own<CudaRope>(rope);
    check_segments(segments, target, layer);
    for (const Segment& segment : segments)
      require(segment.position + segment.tokens <= table.positions,
              "rope_append reads within the rotary table");
    require(own<CudaArray>(q).dtype == own<CudaArray>(k).dtype &&
                own<CudaArray>(k).dtype == own<CudaArray>(v).dtype,
            "queries, keys and values are of one type");
    inputs_.set_segments(segments);
    if (inputs_.tokens() > 0)
      cuda::rope_append(own<CudaArray>(q).values(), own<CudaArray>(k).values(), own<CudaArray>(v).values(),
                        table, heads, inputs_.places(), inputs_.tokens(), layer, target, stream_.get());
  }

  void attention(const Array& q, const Cache& cache, int layer, int heads, float scale,
                 std::span<const Segment> segments, Array& out) override {
    const auto& source = own<CudaCache>(cache);
    check_segments(segments, source, layer);
    inputs_.set_segments(segments);
    if (inputs_.tokens() == 0) return;
    auto& to = own<CudaArray>(out);
    to.dtype = own<CudaArray>(q).dtype;
    AttentionProblem problem;
    problem.cache = &source;
    problem.layer = layer;
    problem.heads = heads;
    problem.scale = scale;
    problem.q = own<CudaArray>(q).values();
    problem.out = to.values();
    problem.rows = inputs_.tokens();
    problem.places = inputs_.places();
    problem.tiles = inputs_.tiles();
    problem.tile_count = inputs_.tile_count();
    problem.longest = inputs_.longest();
    problem.multiprocessors = device_.multiprocessors;
    partials_.reserve(
        partial_floats(problem.rows, heads, source.head_dim, problem.longest, device_.multiprocessors) * 4);
    const std::int64_t counters = problem.rows * heads * 4;
    if (counters > arrived_.bytes()) {
      arrived_ = Buffer(Place::kDevice, counters);
      check(cudaMemsetAsync(arrived_.as<void>(), 0, static_cast<std::size_t>(counters), stream_.get()),
            "clearing counters");
    }
    problem.partials = partials_.as<float>();
    problem.arrived = arrived_.as<unsigned>();
    cuda::attention(problem, stream_.get());
  }

  void gate(Array& gate, const Array& up, Activation activation, std::int64_t rows) override {
    auto& to = own<CudaArray>(gate);
    require(to.dtype == own<CudaArray>(up).dtype && to.cols == own<CudaArray>(up).cols, "gate and up agree");
    cuda::gate(to.values(), own<CudaArray>(up).values(), activation, rows * to.cols, stream_.get());
  }

  void add(Array& x, const Array& y, std::int64_t rows) override {
    auto& to = own<CudaArray>(x);
    require(to.dtype == DType::kF32 && to.cols == own<CudaArray>(y).cols, "the residual stream is float32");
    cuda::add(to.memory.as<float>(), own<CudaArray>(y).values(), rows * to.cols, stream_.get());
  }

  void gather(const Array& x, std::span<const std::int64_t> rows, Array& out) override {
    const auto& from = own<CudaArray>(x);
    auto& to = own<CudaArray>(out);
    require(from.dtype == DType::kF32 && static_cast<std::int64_t>(rows.size()) <= to.rows,
            "gather writes within its output");
    to.dtype = DType::kF32;
    inputs_.set_rows(rows);
    cuda::gather(from.memory.as<float>(), inputs_.rows(), static_cast<std::int64_t>(rows.size()), from.cols,
                 to.memory.as<float>(), stream_.get());
  }

  void read(const Array& x, std::int64_t rows, std::span<float> out) override {
    const auto& from = own<CudaArray>(x);
    const std::int64_t count = rows * from.cols;
    require(static_cast<std::int64_t>(out.size()) >= count, "read fits its output");
    if (count == 0) return;
    fetched_.reserve(count * 4);
    pinned_.reserve(count * 4);
    Values source = from.values();
    if (from.dtype != DType::kF32) {
      source = {fetched_.as<void>(), DType::kF32};
      convert(from.values(), count, source, stream_.get());
    }
    fetch(source.data, count * 4);
    std::memcpy(out.data(), pinned_.as<void>(), static_cast<std::size_t>(count * 4));
  }

  void argmax(const Array& x, std::int64_t rows, std::int64_t columns, std::span<std::int32_t> out) override {
    const auto& from = own<CudaArray>(x);
    require(columns == from.cols && static_cast<std::int64_t>(out.size()) >= rows, "argmax fits its output");
    if (rows == 0) return;
    fetched_.reserve(rows * 4);
    pinned_.reserve(rows * 4);
    cuda::argmax(from.values(), rows, columns, fetched_.as<std::int32_t>(), stream_.get());
    fetch(fetched_.as<void>(), rows * 4);
    std::memcpy(out.data(), pinned_.as<void>(), static_cast<std::size_t>(rows * 4));
  }

  void norm_linears(const Array& x, const Table& norm, float eps, std::span<const Linear* const> linears,
                    std::int64_t rows, Array&, std::span<Array* const> outs) override {
    const auto& from = own<CudaArray>(x);
    require(from.dtype == DType::kF32 && own<CudaTable>(norm).cols == from.cols,
            "norm_linears' widths agree");
    LinearInput input;
    input.source = Source::kNorm;
    input.x = from.values();
    input.weight = values_of(norm);
    input.eps = eps;
    run_group(input, linears, rows, outs);
  }

  void linear_add(const Array& y, const Linear& weight, std::int64_t rows, Array& scratch,
                  Array& x) override {
    LinearInput input;
    input.x = own<CudaArray>(y).values();
    require(own<CudaArray>(x).dtype == DType::kF32, "the residual stream is float32");
    linear_.run_add(input, own<CudaLinear>(weight), rows, own<CudaArray>(scratch), own<CudaArray>(x));
  }

  void gated_linear_add(Array& gate, const Array& up, Activation activation, const Linear& weight,
                        std::int64_t rows, Array& scratch, Array& x) override {
    LinearInput input;
    input.source = Source::kGated;
    input.x = own<CudaArray>(gate).values();
    input.up = own<CudaArray>(up).values();
    input.activation = activation;
    require(input.x.dtype == input.up.dtype && own<CudaArray>(x).dtype == DType::kF32, "gate and up agree");
    linear_.run_add(input, own<CudaLinear>(weight), rows, own<CudaArray>(scratch), own<CudaArray>(x));
  }

  std::unique_ptr<Recordings> make_recordings() override { return std::make_unique<GraphRecordings>(); }

  // Steps of one token per sequence are recorded; a prompt's chunks rarely come
  // twice in the same form.
  void run_step(Recordings& recordings, std::span<const Segment> segments, std::span<const std::int32_t> ids,
                const std::function<void()>& body) override {
    inputs_.set_ids(ids);
    inputs_.set_segments(segments);
    const bool decode = inputs_.tile_count() == inputs_.tokens() && inputs_.tokens() <= kMostRecordedTokens;
    if (!decode) return body();
    static_cast<GraphRecordings&>(recordings)
        .run({inputs_.tokens(), inputs_.longest()}, stream_.get(), body, [this] {
          std::vector<const void*> places = linear_.workspaces();
          for (const void* place :
               {partials_.as<const void>(), arrived_.as<const void>(),
                static_cast<const void*>(inputs_.ids()), static_cast<const void*>(inputs_.places()),
                static_cast<const void*>(inputs_.tiles())})
            places.push_back(place);
          return places;
        });
  }

  std::optional<std::int64_t> free_bytes() const override {
    std::size_t free_now = 0, total = 0;
    check(cudaMemGetInfo(&free_now, &total), "asking for free memory");
    return static_cast<std::int64_t>(free_now);
  }

 private:
  static constexpr std::int64_t kMostRecordedTokens = 256;

  void run_group(const LinearInput& input, std::span<const Linear* const> linears, std::int64_t rows,
                 std::span<Array* const> outs) {
    const CudaLinear* layers[3] = {};
    CudaArray* arrays[3] = {};
    require(linears.size() <= 3 && linears.size() == outs.size(), "at most three layers share an input");
    for (std::size_t i = 0; i < linears.size(); ++i) {
      layers[i] = &own<CudaLinear>(*linears[i]);
      arrays[i] = &own<CudaArray>(*outs[i]);
      require(layers[i]->out == arrays[i]->cols && rows <= arrays[i]->rows, "linear's widths agree");
    }
    linear_.run(input, {layers, linears.size()}, rows, {arrays, linears.size()});
  }

  void fetch(const void* from, std::int64_t bytes) {  // into pinned_
    check(cudaMemcpyAsync(pinned_.as<void>(), from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                          stream_.get()),
          "copying results from the GPU");
    stream_.wait();
  }

  static void check_segments(std::span<const Segment> segments, const CudaCache& cache, int layer) {
    require(layer >= 0 && layer < cache.layers, "the layer is in the cache");
    for (const Segment& segment : segments)
      require(segment.sequence >= 0 && segment.sequence < cache.sequences && segment.position >= 0 &&
                  segment.tokens >= 0 && segment.position + segment.tokens <= cache.positions,
              "a segment lies within the cache");
  }

  // What norms write: the type that all products read, where they agree, else
  // float32.
  void note_compute(DType dtype) {
    if (!computes_) activations_ = dtype;
    if (activations_ != dtype) activations_ = DType::kF32;
    computes_ = true;
  }

  void send(void* to, const void* from, std::int64_t bytes) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_.get()),
          "copying to the GPU");
    stream_.wait();
  }

  Buffer uploaded(const Tensor& tensor) {
    Buffer buffer(Place::kDevice, (tensor.bytes() + 15) / 16 * 16);
    send(buffer.as<void>(), tensor.data(), tensor.bytes());
    return buffer;
  }

  Device device_;
  Stream stream_;
  StepInputs inputs_;
  LinearRunner linear_;
  DType activations_ = DType::kF32;
  bool computes_ = false;
  Buffer partials_, arrived_, fetched_;
  Buffer pinned_{Place::kPinnedHost, 0};
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device) { return std::make_unique<CudaBackend>(device); }

}  // namespace qtool
