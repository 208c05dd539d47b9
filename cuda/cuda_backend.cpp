// The Backend interface on the GPU: checks arguments, keeps what lies where,
// and hands over to the kernels.
#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "cuda/argmax.h"
#include "cuda/arguments.h"
#include "cuda/attention_runner.h"
#include "cuda/device.h"
#include "cuda/linear.h"
#include "cuda/make_residents.h"
#include "cuda/own.h"
#include "cuda/pointwise.h"
#include "cuda/recordings.h"
#include "cuda/residents.h"
#include "cuda/rows.h"
#include "cuda/step_inputs.h"

namespace qtool {
namespace {

using namespace cuda;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index)
      : device_(open_device(index)),
        inputs_(stream_.get()),
        linear_(device_, stream_.get()),
        attention_(device_, inputs_, stream_.get()) {}

  std::string name() const override { return "cuda:" + std::to_string(device_.index) + ": " + device_.name; }

  std::unique_ptr<Array> make_array(std::int64_t rows, std::int64_t cols) override {
    return std::make_unique<CudaArray>(rows, cols);
  }

  std::unique_ptr<Linear> make_linear(Weight weight, std::optional<Tensor> bias,
                                      DType compute_dtype) override {
    note_compute(compute_dtype);
    return make_cuda_linear(weight, bias, compute_dtype, device_, stream_);
  }

  std::unique_ptr<Table> make_table(Tensor values) override { return make_cuda_table(values, stream_); }

  std::unique_ptr<Linear> make_tied_head(const Table& embedding, DType compute_dtype) override {
    note_compute(compute_dtype);
    return make_cuda_tied_head(own<CudaTable>(embedding), compute_dtype);
  }

  std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim, RopePairs pairs) override {
    auto rope = std::make_unique<CudaRope>();
    const std::int64_t bytes = positions * (rotary_dim / 2) * 4;
    rope->cos = Buffer(Place::kDevice, bytes);
    rope->sin = Buffer(Place::kDevice, bytes);
    rope->positions = positions;
    rope->rotary_dim = rotary_dim;
    rope->pairs = pairs;
    return rope;
  }

  void set_rope(Rope& rope, std::int64_t first_position, std::span<const float> cos,
                std::span<const float> sin) override {
    const auto& table = own<CudaRope>(rope);
    const std::int64_t offset = first_position * (table.rotary_dim / 2);
    const auto bytes = static_cast<std::int64_t>(cos.size_bytes());
    require(cos.size() == sin.size() && first_position >= 0 && offset * 4 + bytes <= table.cos.bytes(),
            "set_rope writes within the table");
    send(table.cos.as<float>() + offset, cos.data(), bytes, stream_);
    send(table.sin.as<float>() + offset, sin.data(), bytes, stream_);
  }

  std::unique_ptr<Cache> make_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                    int head_dim, DType dtype) override {
    return make_cuda_cache(layers, sequences, positions, kv_heads, head_dim, dtype);
  }

  std::unique_ptr<Ids> make_ids(std::int64_t rows) override { return std::make_unique<CudaIds>(rows); }

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

  void add_positions(Array& x, const Table& positions, std::int64_t first,
                     std::span<const Segment> segments) override {
    const auto& table = own<CudaTable>(positions);
    auto& to = own<CudaArray>(x);
    for (const Segment& segment : segments)
      require(first + segment.position >= 0 && first + segment.position + segment.tokens <= table.rows,
              "add_positions stays within its table");
    inputs_.set_segments(segments);
    require(table.cols == to.cols && inputs_.tokens() <= to.rows, "add_positions' widths agree");
    cuda::add_positions(stream_of(to, inputs_.tokens()), values_of(positions), first, inputs_.places(),
                        inputs_.tokens(), to.cols, stream_.get());
  }

  void norm(const Array& x, const Norm& norm, std::int64_t rows, Array& out) override {
    const auto& from = own<CudaArray>(x);
    auto& to = own<CudaArray>(out);
    require(from.cols == to.cols && rows <= to.rows, "norm's widths agree");
    if (&from != &to) to.dtype = activations_;
    run_norm(from, norm, 1, rows, to, stream_.get());
  }

  void norm_groups(Array& x, const Norm& norm, int groups, std::int64_t rows) override {
    auto& values = own<CudaArray>(x);
    require(groups > 0 && values.cols % groups == 0 && rows <= values.rows,
            "norm_groups' pieces fill the row");
    run_norm(values, norm, groups, rows, values, stream_.get());
  }

  void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) override {
    const CudaLinear* linears[] = {&own<CudaLinear>(weight)};
    CudaArray* outs[] = {&own<CudaArray>(out)};
    const auto& from = own<CudaArray>(x);
    require(from.cols == linears[0]->in && outs[0]->cols == linears[0]->out && rows <= outs[0]->rows,
            "linear's widths agree");
    linear_.run({.x = from.values()}, linears, rows, outs);
  }

  void split(const Array& fused, int groups, std::int64_t rows, std::span<Array* const> outs) override {
    cuda::split(split_problem(own<CudaArray>(fused), groups, rows, outs), stream_.get());
  }

  void rope_append(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                   std::span<const Segment> segments, int layer, Cache& cache) override {
    attention_.append(tokens_of(q, k, v, rope, heads), segments, layer, own<CudaCache>(cache));
  }

  void attention(const Array& q, const Cache& cache, int layer, int heads, const AttentionOptions& options,
                 std::span<const Segment> segments, Array& out) override {
    attention_.run(own<CudaArray>(q), heads, options, segments, layer, own<CudaCache>(cache),
                   own<CudaArray>(out));
  }

  void rope_attention(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                      const AttentionOptions& options, std::span<const Segment> segments, int layer,
                      Cache& cache, Array& out) override {
    attention_.append_and_run(tokens_of(q, k, v, rope, heads), options, segments, layer,
                              own<CudaCache>(cache), own<CudaArray>(out));
  }

  bool isolate_rows() override {
    if (!linear_.isolate_rows()) return false;
    attention_.isolate_rows();
    return true;
  }

  void gate(Array& gate, const Array* up, Activation activation, std::int64_t rows) override {
    auto& to = own<CudaArray>(gate);
    const Values factor = up ? own<CudaArray>(*up).values() : Values{};
    require(rows <= to.rows && (!up || (to.dtype == factor.dtype && to.cols == own<CudaArray>(*up).cols)),
            "gate and up agree");
    cuda::gate(to.values(), factor, activation, rows * to.cols, stream_.get());
  }

  void add(Array& x, const Array& y, float scale, std::int64_t rows) override {
    auto& to = own<CudaArray>(x);
    require(to.cols == own<CudaArray>(y).cols && rows <= to.rows, "add's widths agree");
    cuda::add(stream_of(to, rows), own<CudaArray>(y).values(), scale, rows * to.cols, stream_.get());
  }

  void clear(Array& x, std::int64_t rows) override {
    auto& to = own<CudaArray>(x);
    require(rows <= to.rows, "clear stays within its array");
    to.dtype = DType::kF32;
    check(
        cudaMemsetAsync(to.memory.as<void>(), 0, static_cast<std::size_t>(rows * to.cols * 4), stream_.get()),
        "clearing values");
  }

  void scale(Array& x, float factor, std::int64_t rows) override { change(x, Change::kScale, factor, rows); }
  void clamp(Array& x, float limit, std::int64_t rows) override { change(x, Change::kClamp, limit, rows); }
  void softcap(Array& x, float cap, std::int64_t rows) override { change(x, Change::kSoftcap, cap, rows); }

  void scatter_add(const Array& y, std::span<const std::int64_t> rows, std::span<const float> weights,
                   Array& x) override {
    const auto& from = own<CudaArray>(y);
    auto& to = own<CudaArray>(x);
    const auto count = static_cast<std::int64_t>(rows.size());
    require(from.cols == to.cols && rows.size() == weights.size() && count <= from.rows,
            "scatter_add's widths agree");
    check_rows(rows, to);
    inputs_.set_rows(rows);
    inputs_.set_weights(weights);
    cuda::scatter_add(from.values(), inputs_.rows(), inputs_.weights(), count, to.cols,
                      stream_of(to, to.rows), stream_.get());
  }

  void gather(const Array& x, std::span<const std::int64_t> rows, Array& out) override {
    const auto& from = own<CudaArray>(x);
    auto& to = own<CudaArray>(out);
    const auto count = static_cast<std::int64_t>(rows.size());
    require(from.cols == to.cols && count <= to.rows, "gather writes within its output");
    check_rows(rows, from);
    to.dtype = from.dtype;
    inputs_.set_rows(rows);
    cuda::gather(from.memory.as<void>(), static_cast<int>(size_of(from.dtype)), inputs_.rows(), count,
                 from.cols, to.memory.as<void>(), stream_.get());
  }

  void read(const Array& x, std::int64_t rows, std::span<float> out) override {
    const auto& from = own<CudaArray>(x);
    const std::int64_t count = rows * from.cols;
    require(rows <= from.rows && static_cast<std::int64_t>(out.size()) >= count, "read fits its output");
    if (count == 0) return;
    pinned_.reserve(count * 4);
    const Values source = from.dtype == DType::kF32 ? from.values() : widened(from, rows);
    fetch(source.data, count * 4);
    std::memcpy(out.data(), pinned_.as<void>(), static_cast<std::size_t>(count * 4));
  }

  void argmax(const Array& x, std::int64_t rows, std::int64_t columns, Ids& out) override {
    const auto& from = own<CudaArray>(x);
    const auto& to = own<CudaIds>(out);
    require(columns == from.cols && rows <= from.rows && rows <= to.rows(), "argmax fits its output");
    if (rows == 0) return;
    cuda::argmax(from.values(), rows, columns, to, stream_.get());
  }

  void read_ids(const Ids& ids, std::span<std::int32_t> out) override {
    const auto& from = own<CudaIds>(ids);
    require(static_cast<std::int64_t>(out.size()) <= from.rows(), "read_ids stays within its ids");
    stream_.wait();
    std::copy_n(from.memory.as<std::int32_t>(), out.size(), out.begin());
  }

  void norm_linears(const Array& x, const Norm& norm, std::span<const Linear* const> linears,
                    std::int64_t rows, Array& scratch, std::span<Array* const> outs) override {
    const auto& from = own<CudaArray>(x);
    if (!takes_norm(from, norm) || linears.size() > kMostShared)
      return Backend::norm_linears(x, norm, linears, rows, scratch, outs);
    run_group(normed(from, norm), linears, rows, outs);
  }

  void linear_add(const Array& y, const Linear& weight, float scale, std::int64_t rows, Array& scratch,
                  Array& x) override {
    if (scale != 1.0f) return Backend::linear_add(y, weight, scale, rows, scratch, x);
    LinearInput input;
    input.x = own<CudaArray>(y).values();
    run_add(input, weight, rows, scratch, x);
  }

  void gated_linear_add(Array& gate, const Array* up, Activation activation, const Linear& weight,
                        float scale, std::int64_t rows, Array& scratch, Array& x) override {
    if (!up || scale != 1.0f)
      return Backend::gated_linear_add(gate, up, activation, weight, scale, rows, scratch, x);
    LinearInput input;
    input.source = Source::kGated;
    input.x = own<CudaArray>(gate).values();
    input.up = own<CudaArray>(*up).values();
    input.activation = activation;
    require(input.x.dtype == input.up.dtype, "gate and up agree");
    run_add(input, weight, rows, scratch, x);
  }

  void gated_mlp_add(const GatedMlp& mlp, std::int64_t rows, Array& scratch, Array& gate, Array& up,
                     Array& x) override {
    auto& to = own<CudaArray>(x);
    const bool plain = mlp.scale == 1.0f && takes_norm(to, mlp.norm);
    if (plain &&
        linear_.run_gated(
            normed(to, mlp.norm),
            {own<CudaLinear>(mlp.gate), own<CudaLinear>(mlp.up), own<CudaLinear>(mlp.down), mlp.activation},
            rows, own<CudaArray>(gate), own<CudaArray>(up), own<CudaArray>(scratch), to))
      return;
    Backend::gated_mlp_add(mlp, rows, scratch, gate, up, x);
  }

  std::unique_ptr<Recordings> make_recordings() override { return std::make_unique<GraphRecordings>(); }

  // Steps of one token per sequence are recorded; a prompt's chunks rarely come
  // twice in the same form.
  void run_step(Recordings& recordings, std::span<const Segment> segments, std::span<const std::int32_t> ids,
                const std::function<void()>& body) override {
    inputs_.set_ids(ids);
    inputs_.set_segments(segments);
    if (!inputs_.one_token_each() || inputs_.tokens() > kMostRecordedTokens) return body();
    static_cast<GraphRecordings&>(recordings)
        .run({inputs_.tokens(), inputs_.longest()}, stream_.get(), body, [this] {
          std::vector<const void*> places = linear_.workspaces();
          for (const void* place : attention_.workspaces()) places.push_back(place);
          for (const void* place :
               {widened_.as<const void>(), static_cast<const void*>(inputs_.ids()),
                static_cast<const void*>(inputs_.places()), static_cast<const void*>(inputs_.tiles())})
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
  static constexpr std::size_t kMostShared = 3;  // layers of one launch that share an input

  static AttentionRunner::Tokens tokens_of(const Array& q, const Array& k, const Array& v, const Rope* rope,
                                           int heads) {
    return {own<CudaArray>(q), own<CudaArray>(k), own<CudaArray>(v), static_cast<const CudaRope*>(rope),
            heads};
  }

  void change(Array& x, Change how, float number, std::int64_t rows) {
    const auto& values = own<CudaArray>(x);
    require(rows <= values.rows, "an operation stays within its array");
    cuda::change(values.values(), how, number, rows * values.cols, stream_.get());
  }

  // The first rows of x in float32, beside it.
  Values widened(const CudaArray& x, std::int64_t rows) {
    widened_.reserve(rows * x.cols * 4);
    const Values wide{widened_.as<void>(), DType::kF32};
    convert(x.values(), rows * x.cols, wide, stream_.get());
    return wide;
  }

  // What sums are added to is float32: a product that begins a residual stream is widened where it lies.
  float* stream_of(CudaArray& x, std::int64_t rows) {
    if (x.dtype != DType::kF32) {
      const Values wide = widened(x, rows);
      x.dtype = DType::kF32;
      convert(wide, rows * x.cols, x.values(), stream_.get());
    }
    return x.memory.as<float>();
  }

  void run_add(const LinearInput& input, const Linear& weight, std::int64_t rows, Array& scratch, Array& x) {
    const auto& linear = own<CudaLinear>(weight);
    auto& between = own<CudaArray>(scratch);
    auto& to = own<CudaArray>(x);
    require(linear.out == to.cols && linear.out == between.cols && rows <= to.rows && rows <= between.rows,
            "a product has the residual stream's columns");
    stream_of(to, rows);
    linear_.run_add(input, linear, rows, between, to);
  }

  void run_group(const LinearInput& input, std::span<const Linear* const> linears, std::int64_t rows,
                 std::span<Array* const> outs) {
    const CudaLinear* layers[kMostShared] = {};
    CudaArray* arrays[kMostShared] = {};
    require(linears.size() == outs.size(), "each layer has an output");
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

  // What norms write: the type that all products read, where they agree, else
  // float32.
  void note_compute(DType dtype) {
    if (!computes_) activations_ = dtype;
    if (activations_ != dtype) activations_ = DType::kF32;
    computes_ = true;
  }

  Device device_;
  Stream stream_;
  StepInputs inputs_;
  LinearRunner linear_;
  AttentionRunner attention_;
  DType activations_ = DType::kF32;
  bool computes_ = false;
  Buffer widened_;
  Buffer pinned_{Place::kPinnedHost, 0};
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device) { return std::make_unique<CudaBackend>(device); }

}  // namespace qtool
