#include "core/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <omp.h>
#include <vector>

#include "core/convert.h"
#include "core/float16.h"

namespace qtool::cpu {

namespace {

constexpr int kChunk = 32;    // positions at a time: 2 x 16 KB of keys and values at head_dim 128
constexpr int kQueries = 32;  // query rows that share a chunk: tokens x heads of one kv head

// Rotates the leading rotary_dim columns of one head: (a, b) -> (a cos - b sin, b cos + a sin) for columns i
// and i + rotary_dim / 2, or 2i and 2i + 1.
void rotate(float* head, const float* cos, const float* sin, int half, RopePairs pairs) {
  if (pairs == RopePairs::kHalves) {
    for (int i = 0; i < half; ++i) {
      const float a = head[i];
      const float b = head[i + half];
      head[i] = a * cos[i] - b * sin[i];
      head[i + half] = b * cos[i] + a * sin[i];
    }
    return;
  }
  for (int i = 0; i < half; ++i) {
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

// Some tokens of one segment, with all query heads that read one kv head.
struct Task {
  int sequence;
  int kv_head;
  std::int64_t row;       // of the first token in q
  std::int64_t position;  // of the first token
  int tokens;
};

// One thread's working memory, for `dim` columns.
struct Buffers {
  float* keys;     // [kChunk, dim]
  float* values;   // [kChunk, dim]
  float* queries;  // [queries, dim], row = token * group + head
  float* sums;     // [queries, dim]
  float* weights;  // [queries, kChunk]: scores, then exp(score - maximum)
  float* maximum;  // [queries]
  float* total;    // [queries], sum of weights so far

  static std::int64_t floats(std::int64_t queries, std::int64_t dim) {
    return 2 * kChunk * dim + queries * (2 * dim + kChunk + 2);
  }
  Buffers(float* memory, std::int64_t query_count, std::int64_t dim)
      : keys(memory),
        values(keys + kChunk * dim),
        queries(values + kChunk * dim),
        sums(queries + query_count * dim),
        weights(sums + query_count * dim),
        maximum(weights + query_count * kChunk),
        total(maximum + query_count) {}
};

// What one query sees of a chunk: positions [begin, end) of it, none if begin >= end.
struct Visible {
  int begin, end;
};

// The other things that happen to scores [positions first, ...) of a query at `position`, besides `scale`.
void adjust(const Backend::AttentionOptions& options, const float* slopes, int head, std::int64_t first,
            std::int64_t position, int positions, float* scores) {
  if (options.softcap > 0.0f)
    for (int p = 0; p < positions; ++p) scores[p] = options.softcap * std::tanh(scores[p] / options.softcap);
  if (!slopes) return;
  const float slope = slopes[head];
  if (options.slopes_bfloat16)
    for (int p = 0; p < positions; ++p)
      scores[p] += options.scale * round_to_bf16(slope * round_to_bf16(static_cast<float>(first + p)));
  else
    for (int p = 0; p < positions; ++p) scores[p] += slope * static_cast<float>(first + p - position);
}

// Turns a query's scores into weights and brings its sums to the new maximum. The weights of the chunk's
// positions that it does not see, which lie in its future or before its window, become 0.
void weigh(float* weights, const Visible& visible, int positions, int dim, float& maximum, float& total,
           float* sums) {
  if (visible.begin >= visible.end) {
    std::fill_n(weights, positions, 0.0f);
    return;
  }
  std::fill(weights, weights + visible.begin, 0.0f);
  std::fill(weights + visible.end, weights + positions, 0.0f);
  const float highest = std::max(maximum, *std::max_element(weights + visible.begin, weights + visible.end));
  if (highest > maximum) {
    const float shrink = std::exp(maximum - highest);
    total *= shrink;
    for (int d = 0; d < dim; ++d) sums[d] *= shrink;
    maximum = highest;
  }
  for (int p = visible.begin; p < visible.end; ++p) {
    weights[p] = std::exp(weights[p] - maximum);
    total += weights[p];
  }
}

void attend(const KernelFunctions& kernels, const float* q, const CpuCache& cache, int layer, int heads,
            const Backend::AttentionOptions& options, const Task& task, const Buffers& buffers, float* out) {
  const int dim = cache.head_dim;
  const int group = heads / cache.kv_heads;
  const int queries = task.tokens * group;
  const auto column = [&](int query) {  // where a query's head begins in q and out
    const std::int64_t row = task.row + query / group;
    return (row * heads + std::int64_t{task.kv_head} * group + query % group) * dim;
  };
  for (int i = 0; i < queries; ++i) std::copy_n(q + column(i), dim, buffers.queries + std::int64_t{i} * dim);
  std::fill_n(buffers.sums, std::int64_t{queries} * dim, 0.0f);
  std::fill_n(buffers.maximum, queries, -std::numeric_limits<float>::infinity());
  std::fill_n(buffers.total, queries, 0.0f);

  const float* slopes =
      options.slopes ? static_cast<const CpuTable*>(options.slopes)->values.as<float>().data() : nullptr;
  const bool adjusted = options.softcap > 0.0f || slopes;
  constexpr std::int64_t kAll = std::int64_t{1} << 62;  // positions; sums with it stay in range
  const std::int64_t window = options.window > 0 ? std::min(options.window, kAll) : kAll;
  // Chunks begin at the same positions for every token, whatever the window: sums do not depend on the task.
  const std::int64_t seen = std::max<std::int64_t>(0, task.position + 1 - window);
  const DType dtype = cache.keys.dtype();
  const std::int64_t end = task.position + task.tokens;
  for (std::int64_t first = seen / kChunk * kChunk; first < end; first += kChunk) {
    const int positions = static_cast<int>(std::min<std::int64_t>(kChunk, end - first));
    const std::int64_t offset = cache.offset(layer, task.sequence, task.kv_head, first) * size_of(dtype);
    kernels.widen(cache.keys.data() + offset, dtype, std::int64_t{positions} * dim, buffers.keys);
    kernels.scores(buffers.queries, queries, buffers.keys, positions, dim, options.scale, buffers.weights,
                   kChunk);
    for (int i = 0; i < queries; ++i) {
      float* weights = buffers.weights + i * kChunk;
      const std::int64_t position = task.position + i / group;
      if (adjusted)
        adjust(options, slopes, task.kv_head * group + i % group, first, position, positions, weights);
      const auto within = [&](std::int64_t p) {
        return static_cast<int>(std::clamp<std::int64_t>(p - first, 0, positions));
      };
      weigh(weights, {within(position + 1 - window), within(position + 1)}, positions, dim,
            buffers.maximum[i], buffers.total[i], buffers.sums + std::int64_t{i} * dim);
    }
    kernels.widen(cache.values.data() + offset, dtype, std::int64_t{positions} * dim, buffers.values);
    kernels.weighted_sum(buffers.weights, kChunk, queries, buffers.values, positions, dim, buffers.sums);
  }
  for (int i = 0; i < queries; ++i) {
    const float* sums = buffers.sums + std::int64_t{i} * dim;
    float* to = out + column(i);
    for (int d = 0; d < dim; ++d) to[d] = sums[d] / buffers.total[i];
  }
}

}  // namespace

void rope_append(float* q, float* k, const float* v, const CpuRope* rope, int heads,
                 std::span<const Segment> segments, int layer, int threads, CpuCache& cache) {
  const int dim = cache.head_dim;
  const DType dtype = cache.keys.dtype();
  const auto rotate_row = [&](float* row, int count, std::int64_t position) {
    if (!rope) return;
    const int half = rope->rotary_dim / 2;
    const float* cos = rope->cos.as<float>().data() + position * half;
    const float* sin = rope->sin.as<float>().data() + position * half;
    for (int head = 0; head < count; ++head) rotate(row + head * dim, cos, sin, half, rope->pairs);
  };
  std::int64_t first_row = 0;
  for (const Segment& segment : segments) {
#pragma omp parallel for num_threads(threads) if (segment.tokens > 16)
    for (std::int64_t t = 0; t < segment.tokens; ++t) {
      const std::int64_t row = first_row + t;
      const std::int64_t position = segment.position + t;
      const std::int64_t keys = row * cache.kv_heads * dim;
      rotate_row(q + row * heads * dim, heads, position);
      rotate_row(k + keys, cache.kv_heads, position);
      for (int head = 0; head < cache.kv_heads; ++head) {
        const std::int64_t from = keys + head * dim;
        const std::int64_t to = cache.offset(layer, segment.sequence, head, position) * size_of(dtype);
        from_float32(k + from, dim, dtype, cache.keys.data() + to);
        from_float32(v + from, dim, dtype, cache.values.data() + to);
      }
    }
    first_row += segment.tokens;
  }
}

void attention(const KernelFunctions& kernels, const float* q, const CpuCache& cache, int layer, int heads,
               const Backend::AttentionOptions& options, std::span<const Segment> segments, int threads,
               Scratch& scratch, float* out) {
  const int group = heads / cache.kv_heads;
  const int tokens_per_task = std::max(1, kQueries / group);
  std::vector<Task> tasks;
  std::int64_t first_row = 0;
  for (const Segment& segment : segments) {
    for (std::int64_t t = 0; t < segment.tokens; t += tokens_per_task) {
      const int tokens = static_cast<int>(std::min<std::int64_t>(tokens_per_task, segment.tokens - t));
      for (int head = 0; head < cache.kv_heads; ++head)
        tasks.push_back({segment.sequence, head, first_row + t, segment.position + t, tokens});
    }
    first_row += segment.tokens;
  }

  const std::int64_t queries = std::int64_t{tokens_per_task} * group;
  const std::int64_t floats = (Buffers::floats(queries, cache.head_dim) + 15) / 16 * 16;
  float* memory = scratch.get<float>(threads * floats);
  const auto count = static_cast<std::int64_t>(tasks.size());
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    // The last tokens see the most positions: long tasks go first.
    const Task& task = tasks[static_cast<std::size_t>(count - 1 - i)];
    attend(kernels, q, cache, layer, heads, options, task,
           Buffers(memory + omp_get_thread_num() * floats, queries, cache.head_dim), out);
  }
}

}  // namespace qtool::cpu
