// Rotary embedding, the key/value cache, and attention over it.
//
// Everything is summed in an order that only sizes decide (tokens, heads, the longest sequence, the window),
// the splits of one head included: the same call gives the same bits every time.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/residents.h"

namespace qtool::cuda {

// Where a token of the step stands.
struct Place2 {
  int sequence;
  int position;
};

// Up to kQueryTile consecutive tokens of one sequence.
struct QueryTile {
  int row;  // of the first token
  int count;
  int sequence;
  int position;  // of the first token
};
inline constexpr int kQueryTile = 64;

inline constexpr int kNoWindow = 1 << 30;

// Backend::AttentionOptions in device memory.
struct ScoreRule {
  float scale = 1.0f;
  float softcap = 0.0f;           // 0: none
  int window = kNoWindow;         // positions that a token sees, itself included
  const float* slopes = nullptr;  // [heads]
  bool slopes_bfloat16 = false;

  bool shaped() const { return softcap > 0.0f || slopes; }  // more than a scale
};

struct AttentionProblem {
  const CudaCache* cache = nullptr;
  int layer = 0;
  int heads = 0;
  ScoreRule rule;
  Values q;    // [rows, heads * head_dim]
  Values out;  // the same, of q's type
  std::int64_t rows = 0;
  const Place2* places = nullptr;    // [rows], device
  const QueryTile* tiles = nullptr;  // [tile_count], device: the same tokens
  std::int64_t tile_count = 0;
  std::int64_t longest = 0;  // at least as long as any sequence in the step
  int multiprocessors = 0;
  int capability = 0;           // 10 * major + minor
  float* partials = nullptr;    // [partial_floats()]
  unsigned* arrived = nullptr;  // [rows * heads], all 0; left so

  // Of the cache, at most, that one token reads.
  std::int64_t reach() const { return longest < rule.window ? longest : rule.window; }
};

// Rotates q and k [rows, heads * head_dim] in place, if there is a rope, and files k and v in the cache.
void rope_append(Values q, Values k, Values v, const CudaRope* rope, int heads, const Place2* places,
                 std::int64_t rows, int layer, CudaCache& cache, cudaStream_t stream);

// Workspace of attention, whatever `partials` and `arrived` are.
std::int64_t partial_floats(const AttentionProblem& problem);

// Causal softmax attention over what the cache holds from the window's beginning up to each token's own
// position: by the first of the kernels below that takes the problem, or a plain one that takes any.
void attention(const AttentionProblem& problem, cudaStream_t stream);

// Many tokens of few sequences, on the tensor cores (prefill.cu). False if it does not take this type, head
// size or device.
bool prefill_attention(const AttentionProblem& problem, cudaStream_t stream);

// Few tokens with long caches (decode.cu). False if it does not take these types or this head size.
bool decode_attention(const AttentionProblem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
