// Rotary embedding, the key/value cache, and attention over it.
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

struct AttentionProblem {
  const CudaCache* cache = nullptr;
  int layer = 0;
  int heads = 0;
  float scale = 0.0f;
  Values q;    // [rows, heads * head_dim]
  Values out;  // the same, of q's type
  std::int64_t rows = 0;
  const Place2* places = nullptr;    // [rows], device
  const QueryTile* tiles = nullptr;  // [tile_count], device: the same tokens
  std::int64_t tile_count = 0;
  std::int64_t longest = 0;  // at least as long as any sequence in the step
  int multiprocessors = 0;
  float* partials = nullptr;    // [partial_floats()]
  unsigned* arrived = nullptr;  // [rows * heads], all 0; left so
};

// Rotates q and k [rows, heads * head_dim] in place by halves, and files k and
// v in the cache.
void rope_append(Values q, Values k, Values v, const CudaRope& rope, int heads, const Place2* places,
                 std::int64_t rows, int layer, CudaCache& cache, cudaStream_t stream);

// Workspace of attention over `rows` tokens.
std::int64_t partial_floats(std::int64_t rows, int heads, int head_dim, std::int64_t longest,
                            int multiprocessors);

// Causal softmax attention over everything the cache holds up to each token's
// own position.
void attention(const AttentionProblem& problem, cudaStream_t stream);

// The tensor core kernel for many tokens (prefill.cu). False if it does not
// take this type or head size.
bool prefill_attention(const AttentionProblem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
