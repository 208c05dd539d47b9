#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/model/role_shape.h"

namespace qtool {
namespace {

constexpr std::int64_t kRopeRowsAtOnce = 1024;  // bounds the host copy of a long table

std::string place_of(Role role, int layer) {
  static constexpr const char* kNames[] = {
      "embedding",       "input norm",       "query projection",
      "key projection",  "value projection", "attention output projection",
      "MLP norm",        "gate projection",  "up projection",
      "down projection", "final norm",       "output head"};
  const std::string name = kNames[static_cast<std::size_t>(role)];
  return layer < 0 ? "the " + name : "layer " + std::to_string(layer) + "'s " + name;
}

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void expect_shape(const Shape& found, const Shape& expected, Role role, int layer) {
  if (found != expected)
    throw Error(ExitCode::kMalformed, place_of(role, layer) + " has shape " + text_of(found) +
                                          " where the model needs " + text_of(expected) +
                                          "; the configuration and the weights disagree");
}

// Turns what the source gives into what the backend computes with.
class Loader {
 public:
  Loader(const ModelSpec& spec, Backend& backend, WeightSource& source, const Transformer::Options& options,
         const std::function<void(std::int64_t)>& loaded)
      : spec_(spec), backend_(backend), source_(source), options_(options), loaded_(loaded) {}

  std::unique_ptr<Backend::Table> table(Role role, int layer) {
    Tensor values = source_.dense(role, layer);
    expect_shape(values.shape(), role_shape(spec_, role), role, layer);
    return report(backend_.make_table(std::move(values)));
  }

  std::unique_ptr<Backend::Linear> linear(Role role, int layer) {
    const Shape expected = role_shape(spec_, role);
    Weight weight = source_.linear(role, layer);
    expect_shape(qtool::shape_of(weight), expected, role, layer);
    std::optional<Tensor> bias = source_.bias(role, layer);
    if (bias) expect_shape(bias->shape(), {expected[0]}, role, layer);
    const bool packed4 = std::holds_alternative<Block4Weight>(weight);
    return report(backend_.make_linear(std::move(weight), std::move(bias),
                                       packed4 ? options_.compute_dtype : options_.dense_dtype));
  }

 private:
  template <typename Made>
  Made report(Made made) {
    if (loaded_) loaded_(made->bytes());
    return made;
  }

  const ModelSpec& spec_;
  Backend& backend_;
  WeightSource& source_;
  const Transformer::Options& options_;
  const std::function<void(std::int64_t)>& loaded_;
};

}  // namespace

Transformer::Transformer(ModelSpec spec, Backend& backend, WeightSource& source, const Options& options,
                         const std::function<void(std::int64_t)>& loaded)
    : spec_(std::move(spec)), backend_(backend), options_(options) {
  load(source, loaded);
  allocate();
}

void Transformer::load(WeightSource& source, const std::function<void(std::int64_t)>& loaded) {
  Loader loader(spec_, backend_, source, options_, loaded);
  embedding_ = loader.table(Role::kEmbedding, -1);
  layers_.reserve(static_cast<std::size_t>(spec_.layers));
  for (int i = 0; i < spec_.layers; ++i) {
    Layer layer;
    layer.input_norm = loader.table(Role::kInputNorm, i);
    layer.query = loader.linear(Role::kQuery, i);
    layer.key = loader.linear(Role::kKey, i);
    layer.value = loader.linear(Role::kValue, i);
    layer.output = loader.linear(Role::kAttentionOutput, i);
    layer.mlp_norm = loader.table(Role::kMlpNorm, i);
    layer.gate = loader.linear(Role::kGate, i);
    layer.up = loader.linear(Role::kUp, i);
    layer.down = loader.linear(Role::kDown, i);
    layers_.push_back(std::move(layer));
  }
  final_norm_ = loader.table(Role::kFinalNorm, -1);
  head_ = spec_.tied_head ? backend_.make_tied_head(*embedding_, options_.dense_dtype)
                          : loader.linear(Role::kHead, -1);
}

void Transformer::allocate() {
  const Capacity& capacity = options_.capacity;
  const std::int64_t query = std::int64_t{spec_.heads} * spec_.head_dim;
  const std::int64_t key = std::int64_t{spec_.kv_heads} * spec_.head_dim;
  space_.x = backend_.make_array(capacity.chunk_tokens, spec_.hidden_size);
  space_.block = backend_.make_array(capacity.chunk_tokens, spec_.hidden_size);
  space_.query = backend_.make_array(capacity.chunk_tokens, query);
  space_.attention = backend_.make_array(capacity.chunk_tokens, query);
  space_.key = backend_.make_array(capacity.chunk_tokens, key);
  space_.value = backend_.make_array(capacity.chunk_tokens, key);
  space_.gate = backend_.make_array(capacity.chunk_tokens, spec_.intermediate_size);
  space_.up = backend_.make_array(capacity.chunk_tokens, spec_.intermediate_size);
  space_.picked = backend_.make_array(capacity.logit_rows, spec_.hidden_size);
  space_.normed = backend_.make_array(capacity.logit_rows, spec_.hidden_size);
  space_.logits = backend_.make_array(capacity.logit_rows, spec_.vocab_size);
  space_.host_logits.resize(static_cast<std::size_t>(capacity.logit_rows * spec_.vocab_size));
  cache_ = backend_.make_cache(spec_.layers, capacity.sequences, capacity.context_tokens, spec_.kv_heads,
                               spec_.head_dim, options_.kv_dtype);
  recordings_ = backend_.make_recordings();
  rope_ = backend_.make_rope(capacity.context_tokens, spec_.rope.rotary_dim);
  set_rope_rows(rope_frequencies(spec_, 0), 0, capacity.context_tokens);
}

void Transformer::set_rope_rows(const RopeFrequencies& frequencies, std::int64_t first_position,
                                std::int64_t count) {
  const auto pairs = static_cast<std::int64_t>(frequencies.inv_freq.size());
  for (std::int64_t done = 0; done < count; done += kRopeRowsAtOnce) {
    const std::int64_t rows = std::min(kRopeRowsAtOnce, count - done);
    cos_.resize(static_cast<std::size_t>(rows * pairs));
    sin_.resize(cos_.size());
    rope_table(frequencies, first_position + done, cos_, sin_);
    backend_.set_rope(*rope_, first_position + done, cos_, sin_);
  }
}

// Where the frequencies depend on the length, a step's rows of the table are
// those of the length it reaches: as in transformers, which computes one set
// for all tokens of a call. Older keys stay as they were rotated.
void Transformer::follow_length(std::span<const Segment> segments, std::int64_t length) {
  if (!rope_depends_on_length(spec_.rope)) return;
  for (const Segment& segment : segments) length = std::max(length, segment.position + segment.tokens);
  const RopeFrequencies frequencies = rope_frequencies(spec_, length);
  for (const Segment& segment : segments) set_rope_rows(frequencies, segment.position, segment.tokens);
}

void Transformer::forward(std::span<const Segment> segments, std::span<const std::int32_t> ids,
                          std::int64_t length) {
  std::int64_t rows = 0;
  for (const Segment& segment : segments) {
    rows += segment.tokens;
    if (segment.sequence < 0 || segment.sequence >= options_.capacity.sequences || segment.position < 0 ||
        segment.tokens < 1 || segment.position + segment.tokens > options_.capacity.context_tokens)
      throw internal_error("a step reaches beyond the cache");
  }
  if (rows != static_cast<std::int64_t>(ids.size()) || rows > options_.capacity.chunk_tokens)
    throw internal_error("a step has more tokens than the workspace");
  for (const std::int32_t id : ids)
    if (id < 0 || id >= spec_.vocab_size)
      throw Error(ExitCode::kUsage, "token id " + std::to_string(id) +
                                        " is outside the model's vocabulary of " +
                                        std::to_string(spec_.vocab_size));
  follow_length(segments, length);
  stop_if_interrupted();
  backend_.run_step(*recordings_, segments, ids, [&] {
    backend_.embed(*embedding_, ids, *space_.x);
    for (int i = 0; i < spec_.layers; ++i) {
      stop_if_interrupted();
      run_layer(i, segments, rows);
    }
  });
}

void Transformer::run_layer(int index, std::span<const Segment> segments, std::int64_t rows) {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const auto eps = static_cast<float>(spec_.norm_eps);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec_.head_dim)));

  const Backend::Linear* projections[] = {layer.query.get(), layer.key.get(), layer.value.get()};
  Backend::Array* projected[] = {space_.query.get(), space_.key.get(), space_.value.get()};
  backend_.norm_linears(*space_.x, *layer.input_norm, eps, projections, rows, *space_.block, projected);
  backend_.rope_append(*space_.query, *space_.key, *space_.value, *rope_, spec_.heads, segments, index,
                       *cache_);
  backend_.attention(*space_.query, *cache_, index, spec_.heads, scale, segments, *space_.attention);
  backend_.linear_add(*space_.attention, *layer.output, rows, *space_.block, *space_.x);

  const Backend::Linear* mlp[] = {layer.gate.get(), layer.up.get()};
  Backend::Array* widened[] = {space_.gate.get(), space_.up.get()};
  backend_.norm_linears(*space_.x, *layer.mlp_norm, eps, mlp, rows, *space_.block, widened);
  backend_.gated_linear_add(*space_.gate, *space_.up, spec_.activation, *layer.down, rows, *space_.block,
                            *space_.x);
}

void Transformer::compute_logits(std::span<const std::int64_t> rows) {
  const auto count = static_cast<std::int64_t>(rows.size());
  if (count > options_.capacity.logit_rows)
    throw internal_error("logits of more tokens than the workspace holds");
  backend_.gather(*space_.x, rows, *space_.picked);
  backend_.rms_norm(*space_.picked, *final_norm_, static_cast<float>(spec_.norm_eps), count, *space_.normed);
  backend_.linear(*space_.normed, *head_, count, *space_.logits);
}

void Transformer::greedy(std::span<const std::int64_t> rows, std::span<std::int32_t> tokens) {
  compute_logits(rows);
  backend_.argmax(*space_.logits, static_cast<std::int64_t>(rows.size()), spec_.vocab_size, tokens);
}

std::span<const float> Transformer::logits(std::span<const std::int64_t> rows) {
  compute_logits(rows);
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::span<float> out(space_.host_logits.data(), static_cast<std::size_t>(count * spec_.vocab_size));
  backend_.read(*space_.logits, count, out);
  return out;
}

std::int64_t Transformer::weights_bytes() const {
  std::int64_t bytes = embedding_->bytes() + final_norm_->bytes() + head_->bytes();
  for (const Layer& layer : layers_) {
    bytes += layer.input_norm->bytes() + layer.mlp_norm->bytes();
    for (const auto* linear :
         {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down})
      bytes += (*linear)->bytes();
  }
  return bytes;
}

std::int64_t Transformer::kv_cache_bytes() const { return cache_->bytes(); }

std::int64_t Transformer::workspace_bytes() const {
  std::int64_t bytes = rope_->bytes() + static_cast<std::int64_t>(space_.host_logits.size() * sizeof(float));
  for (const auto* array :
       {&space_.x, &space_.block, &space_.query, &space_.attention, &space_.key, &space_.value, &space_.gate,
        &space_.up, &space_.picked, &space_.normed, &space_.logits})
    bytes += (*array)->bytes();
  return bytes;
}

std::int64_t Transformer::bytes_per_decode_step(std::int64_t context_tokens) const {
  const std::int64_t row = embedding_->bytes() / spec_.vocab_size;
  const std::int64_t weights = weights_bytes() + row - (spec_.tied_head ? 0 : embedding_->bytes());
  return weights + qtool::kv_cache_bytes(spec_, 1, context_tokens, options_.kv_dtype);
}

}  // namespace qtool
