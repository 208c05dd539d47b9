#include "core/model/transformer.h"

#include <algorithm>
#include <string>

#include "core/convert.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/model/alibi.h"

namespace qtool {
namespace {

constexpr std::int64_t kRopeRowsAtOnce = 1024;  // bounds the host copy of a long table

float rounded(double value, DType dtype) {
  const auto exact = static_cast<float>(value);
  Tensor element(dtype, {1});
  from_float32(&exact, 1, dtype, element.data());
  float out = 0.0f;
  to_float32(element.data(), dtype, 1, &out);
  return out;
}

// Whether `rows` are 0, 1, ... count - 1.
bool are_all(std::span<const std::int64_t> rows, std::int64_t count) {
  std::int64_t next = 0;
  return static_cast<std::int64_t>(rows.size()) == count &&
         std::ranges::all_of(rows, [&](std::int64_t row) { return row == next++; });
}

}  // namespace

Transformer::Transformer(ModelSpec spec, Backend& backend, WeightSource& source, const Options& options,
                         const std::function<void(std::int64_t)>& loaded)
    : spec_(std::move(spec)), backend_(backend), options_(options) {
  weights_ = load_weights(spec_, backend_, source, {options_.compute_dtype, options_.dense_dtype}, loaded);
  allocate();
}

void Transformer::allocate() {
  const Capacity& capacity = options_.capacity;
  space_ = Workspace(backend_, spec_, capacity);
  host_logits_.resize(static_cast<std::size_t>(capacity.logit_rows * spec_.vocab_size));
  cache_ = backend_.make_cache(spec_.layers, capacity.sequences, capacity.context_tokens, spec_.kv_heads,
                               spec_.head_dim, options_.kv_dtype);
  for (auto& recordings : recordings_) recordings = backend_.make_recordings();
  likeliest_ = backend_.make_ids(capacity.logit_rows);
  global_rope_ = make_rope(LayerRope::kGlobal, spec_.rope);
  local_rope_ = make_rope(LayerRope::kLocal, spec_.local_rope.value_or(RopeSpec{}));
  if (spec_.alibi != Alibi::kNone) {
    Tensor slopes(DType::kF32, {spec_.heads});
    std::ranges::copy(alibi_slopes(spec_), slopes.as<float>().begin());
    slopes_ = backend_.make_table(std::move(slopes));
  }
  embedding_scale_ = rounded(spec_.embedding_scale, options_.dense_dtype);
}

Transformer::RopeTable Transformer::make_rope(LayerRope which, const RopeSpec& rope) {
  RopeTable made{rope, nullptr};
  if (!uses_rope(spec_, which)) return made;
  const std::int64_t positions = options_.capacity.context_tokens;
  made.table = backend_.make_rope(positions, rope.rotary_dim, spec_.rope_pairs);
  set_rope_rows(made, rope_frequencies(rope, spec_.max_positions, 0), 0, positions);
  return made;
}

void Transformer::set_rope_rows(const RopeTable& rope, const RopeFrequencies& frequencies,
                                std::int64_t first_position, std::int64_t count) {
  const auto pairs = static_cast<std::int64_t>(frequencies.inv_freq.size());
  for (std::int64_t done = 0; done < count; done += kRopeRowsAtOnce) {
    const std::int64_t rows = std::min(kRopeRowsAtOnce, count - done);
    cos_.resize(static_cast<std::size_t>(rows * pairs));
    sin_.resize(cos_.size());
    rope_table(frequencies, first_position + done, cos_, sin_);
    backend_.set_rope(*rope.table, first_position + done, cos_, sin_);
  }
}

// Where the frequencies depend on the length, a step's rows of the table are
// those of the length it reaches: as in transformers, which computes one set
// for all tokens of a call. Older keys stay as they were rotated.
void Transformer::follow_length(std::span<const Segment> segments, std::int64_t length) {
  for (const Segment& segment : segments) length = std::max(length, segment.position + segment.tokens);
  for (const RopeTable* rope : {&global_rope_, &local_rope_}) {
    if (!rope->table || !rope_depends_on_length(rope->spec)) continue;
    const RopeFrequencies frequencies = rope_frequencies(rope->spec, spec_.max_positions, length);
    for (const Segment& segment : segments)
      set_rope_rows(*rope, frequencies, segment.position, segment.tokens);
  }
}

void Transformer::check(std::span<const Segment> segments, std::span<const std::int32_t> ids) const {
  std::int64_t rows = 0;
  for (const Segment& segment : segments) {
    rows += segment.tokens;
    if (segment.sequence < 0 || segment.sequence >= options_.capacity.sequences || segment.position < 0 ||
        segment.tokens < 1 || segment.position + segment.tokens > options_.capacity.context_tokens)
      throw internal_error("a step reaches beyond the cache");
    if (spec_.learned_positions && segment.position + segment.tokens > spec_.max_positions)
      throw Error(ExitCode::kUsage, "the model knows " + std::to_string(spec_.max_positions) +
                                        " positions and none beyond; use a shorter text or a smaller "
                                        "--context");
  }
  if (rows != static_cast<std::int64_t>(ids.size()) || rows > options_.capacity.chunk_tokens)
    throw internal_error("a step has more tokens than the workspace");
  for (const std::int32_t id : ids)
    if (id < 0 || id >= spec_.vocab_size)
      throw Error(ExitCode::kUsage, "token id " + std::to_string(id) +
                                        " is outside the model's vocabulary of " +
                                        std::to_string(spec_.vocab_size));
}

void Transformer::forward(std::span<const Segment> segments, std::span<const std::int32_t> ids,
                          std::int64_t length, UpTo up_to) {
  check(segments, ids);
  follow_length(segments, length);
  stop_if_interrupted();
  const Step step{segments, static_cast<std::int64_t>(ids.size())};
  step_rows_ = step.rows;
  has_logits_ = has_likeliest_ = false;
  if (segments.size() != ids.size() || step.rows > options_.capacity.logit_rows) up_to = UpTo::kLayers;
  const auto body = [&] {
    embed(step, ids);
    for (int i = 0; i < spec_.layers; ++i) {
      stop_if_interrupted();
      run_layer(i, step);
    }
    if (up_to >= UpTo::kLogits) compute_logits(space_[Buffer::kStream], step.rows);
    if (up_to >= UpTo::kTokens)
      backend_.argmax(space_[Buffer::kLogits], step.rows, spec_.vocab_size, *likeliest_);
  };
  // Which experts run depends on what the router says: such a step cannot be recorded.
  if (spec_.experts.experts > 0)
    body();
  else
    backend_.run_step(*recordings_[static_cast<std::size_t>(up_to)], segments, ids, body);
  has_logits_ = up_to >= UpTo::kLogits;
  has_likeliest_ = up_to >= UpTo::kTokens;
}

void Transformer::embed(const Step& step, std::span<const std::int32_t> ids) {
  const RoleWeights& outside = weights_.outside;
  Backend::Array& x = space_[Buffer::kStream];
  if (spec_.embedding_size == 0) {
    backend_.embed(*outside.table(Role::kEmbedding), ids, x);
  } else {
    backend_.embed(*outside.table(Role::kEmbedding), ids, space_[Buffer::kEmbedded]);
    backend_.linear(space_[Buffer::kEmbedded], outside.linear(Role::kProjectIn), step.rows, x);
  }
  if (embedding_scale_ != 1.0f) backend_.scale(x, embedding_scale_, step.rows);
  if (spec_.learned_positions)
    backend_.add_positions(x, *outside.table(Role::kPositions), *spec_.learned_positions, step.segments);
  if (spec_.embedding_norm) backend_.norm(x, norm_of(outside, Role::kEmbeddingNorm), step.rows, x);
}

// Of `rows` last hidden states.
void Transformer::compute_logits(const Backend::Array& last, std::int64_t rows) {
  const RoleWeights& outside = weights_.outside;
  Backend::Array& logits = space_[Buffer::kLogits];
  const bool projects = spec_.embedding_size != 0;
  const Backend::Linear& first = outside.linear(projects ? Role::kProjectOut : Role::kHead);
  Backend::Array& first_out = projects ? space_[Buffer::kProjected] : logits;
  if (spec_.final_norm) {
    const Backend::Linear* const linears[] = {&first};
    Backend::Array* const outs[] = {&first_out};
    backend_.norm_linears(last, norm_of(outside, Role::kFinalNorm), linears, rows, space_[Buffer::kLastNorm],
                          outs);
  } else {
    backend_.linear(last, first, rows, first_out);
  }
  if (projects) backend_.linear(first_out, outside.linear(Role::kHead), rows, logits);
  if (spec_.logit_scale != 1.0) backend_.scale(logits, static_cast<float>(spec_.logit_scale), rows);
  if (spec_.logit_softcap != 0.0) backend_.softcap(logits, static_cast<float>(spec_.logit_softcap), rows);
}

// kLogits holds those of `rows`.
void Transformer::need_logits(std::span<const std::int64_t> rows) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const bool all = are_all(rows, step_rows_);
  if (all && has_logits_) return;
  if (count > options_.capacity.logit_rows)
    throw internal_error("logits of more tokens than the workspace holds");
  has_logits_ = false;
  if (!all) backend_.gather(space_[Buffer::kStream], rows, space_[Buffer::kLast]);
  compute_logits(space_[all ? Buffer::kStream : Buffer::kLast], count);
  has_logits_ = all;
}

void Transformer::greedy(std::span<const std::int64_t> rows, std::span<std::int32_t> tokens) {
  if (!has_likeliest_) {
    need_logits(rows);
    backend_.argmax(space_[Buffer::kLogits], static_cast<std::int64_t>(rows.size()), spec_.vocab_size,
                    *likeliest_);
    return backend_.read_ids(*likeliest_, tokens.first(rows.size()));
  }
  host_likeliest_.resize(static_cast<std::size_t>(step_rows_));
  backend_.read_ids(*likeliest_, host_likeliest_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] < 0 || rows[i] >= step_rows_) throw internal_error("a token is not of the last step");
    tokens[i] = host_likeliest_[static_cast<std::size_t>(rows[i])];
  }
}

std::span<const float> Transformer::logits(std::span<const std::int64_t> rows) {
  need_logits(rows);
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::span<float> out(host_logits_.data(), static_cast<std::size_t>(count * spec_.vocab_size));
  backend_.read(space_[Buffer::kLogits], count, out);
  return out;
}

std::int64_t Transformer::weights_bytes() const { return weights_.bytes(); }

std::int64_t Transformer::kv_cache_bytes() const { return cache_->bytes(); }

std::int64_t Transformer::workspace_bytes() const {
  std::int64_t bytes = space_.bytes() + static_cast<std::int64_t>(host_logits_.size() * sizeof(float));
  for (const RopeTable* rope : {&global_rope_, &local_rope_})
    if (rope->table) bytes += rope->table->bytes();
  return bytes + (slopes_ ? slopes_->bytes() : 0);
}

std::int64_t Transformer::bytes_per_decode_step(std::int64_t context_tokens) const {
  return weights_.bytes_per_token(spec_) + qtool::kv_cache_bytes(spec_, 1, context_tokens, options_.kv_dtype);
}

}  // namespace qtool
