#include "cuda/attention_runner.h"

#include <algorithm>

#include "cuda/own.h"

namespace qtool::cuda {
namespace {

void check_segments(std::span<const Segment> segments, const CudaCache& cache, int layer) {
  require(layer >= 0 && layer < cache.layers, "the layer is in the cache");
  for (const Segment& segment : segments)
    require(segment.sequence >= 0 && segment.sequence < cache.sequences && segment.position >= 0 &&
                segment.tokens >= 0 && segment.position + segment.tokens <= cache.positions,
            "a segment lies within the cache");
}

void check_tokens(const AttentionRunner::Tokens& tokens, std::span<const Segment> segments,
                  const CudaCache& cache, int layer) {
  check_segments(segments, cache, layer);
  for (const Segment& segment : segments)
    require(!tokens.rope || segment.position + segment.tokens <= tokens.rope->positions,
            "rope_append reads within the rotary table");
  require(tokens.q.dtype == tokens.k.dtype && tokens.k.dtype == tokens.v.dtype,
          "queries, keys and values are of one type");
}

ScoreRule rule_of(const Backend::AttentionOptions& options, int heads) {
  ScoreRule rule;
  rule.scale = options.scale;
  rule.softcap = options.softcap;
  if (options.window > 0) rule.window = static_cast<int>(std::min<std::int64_t>(options.window, kNoWindow));
  if (options.slopes) {
    const auto& slopes = own<CudaTable>(*options.slopes);
    require(slopes.dtype == DType::kF32 && slopes.count() == heads, "there is a slope for each head");
    rule.slopes = slopes.memory.as<float>();
    rule.slopes_bfloat16 = options.slopes_bfloat16;
  }
  return rule;
}

}  // namespace

void AttentionRunner::append(const Tokens& tokens, std::span<const Segment> segments, int layer,
                             const CudaCache& cache) {
  check_tokens(tokens, segments, cache, layer);
  inputs_.set_segments(segments);
  if (inputs_.tokens() > 0)
    rope_append(tokens.q.values(), tokens.k.values(), tokens.v.values(), rotation_of(tokens.rope),
                tokens.heads, inputs_.places(), inputs_.tokens(), layer, cache, stream_);
}

void AttentionRunner::run(const CudaArray& q, int heads, const Backend::AttentionOptions& options,
                          std::span<const Segment> segments, int layer, const CudaCache& cache,
                          CudaArray& out) {
  check_segments(segments, cache, layer);
  inputs_.set_segments(segments);
  if (inputs_.tokens() == 0) return;
  AttentionProblem problem = problem_of(q, heads, options, layer, cache, out);
  reserve(problem);
  attention(problem, stream_);
}

void AttentionRunner::append_and_run(const Tokens& tokens, const Backend::AttentionOptions& options,
                                     std::span<const Segment> segments, int layer, const CudaCache& cache,
                                     CudaArray& out) {
  check_tokens(tokens, segments, cache, layer);
  inputs_.set_segments(segments);
  if (inputs_.tokens() == 0) return;
  AttentionProblem problem = problem_of(tokens.q, tokens.heads, options, layer, cache, out);
  problem.fresh = {tokens.k.values().data, tokens.v.values().data, rotation_of(tokens.rope)};
  if (isolated_ || !inputs_.one_token_each() || !takes_fresh(problem)) {
    append(tokens, segments, layer, cache);
    return run(tokens.q, tokens.heads, options, segments, layer, cache, out);
  }
  reserve(problem);
  decode_attention(problem, stream_);
}

std::vector<const void*> AttentionRunner::workspaces() const {
  return {partials_.as<void>(), arrived_.as<void>()};
}

AttentionProblem AttentionRunner::problem_of(const CudaArray& q, int heads,
                                             const Backend::AttentionOptions& options, int layer,
                                             const CudaCache& cache, CudaArray& out) const {
  out.dtype = q.dtype;
  AttentionProblem problem;
  problem.cache = &cache;
  problem.layer = layer;
  problem.heads = heads;
  problem.rule = rule_of(options, heads);
  problem.q = q.values();
  problem.out = out.values();
  problem.rows = inputs_.tokens();
  problem.places = inputs_.places();
  problem.tiles = inputs_.tiles();
  problem.tile_count = inputs_.tile_count();
  problem.longest = inputs_.longest();
  problem.multiprocessors = device_.multiprocessors;
  problem.capability = device_.capability;
  problem.isolated = isolated_;
  return problem;
}

void AttentionRunner::reserve(AttentionProblem& problem) {
  partials_.reserve(partial_floats(problem) * 4);
  const std::int64_t counters = problem.rows * problem.heads * 4;
  if (counters > arrived_.bytes()) {
    arrived_ = Buffer(Place::kDevice, counters);
    check(cudaMemsetAsync(arrived_.as<void>(), 0, static_cast<std::size_t>(counters), stream_),
          "clearing counters");
  }
  problem.partials = partials_.as<float>();
  problem.arrived = arrived_.as<unsigned>();
}

}  // namespace qtool::cuda
