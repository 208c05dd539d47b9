// Rotary embedding, the key/value cache, and attention over it.
//
// Everything is summed in an order that only sizes decide (tokens, heads, each length, the class of the
// longest), the splits of one head included: the same call gives the same bits every time.
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
inline constexpr int kQueryTile = 128;

inline constexpr int kNoWindow = 1 << 30;

// Backend::AttentionOptions in device memory.
struct ScoreRule {
  float scale = 1.0f;
  float softcap = 0.0f;           // 0: none
  int window = kNoWindow;         // positions that a token sees, itself included
  const float* slopes = nullptr;  // [heads]
  bool slopes_bfloat16 = false;

  constexpr bool shaped() const { return softcap > 0.0f || slopes; }  // more than a scale
};

// The first 2 * half columns of a head rotate: column i with i + half, or 2i with 2i + 1.
struct Rotation {
  const float* cos = nullptr;  // [positions, half]
  const float* sin = nullptr;
  int half = 0;
  bool neighbours = false;
};
Rotation rotation_of(const CudaRope* rope);  // none: nothing rotates

// Keys and values of the step's own tokens before they are rotated and filed. Each token is the only one of
// its sequence.
struct FreshTokens {
  const void* k = nullptr;  // [rows, kv_heads * head_dim], of q's type; q is not rotated yet either
  const void* v = nullptr;
  Rotation rotation;
};

struct AttentionProblem {
  const CudaCache* cache = nullptr;
  int layer = 0;
  int heads = 0;
  ScoreRule rule;
  Values q;           // [rows, heads * head_dim]
  Values out;         // the same, of q's type
  FreshTokens fresh;  // takes_fresh(): what is not in the cache yet, and filed there on the way
  std::int64_t rows = 0;
  const Place2* places = nullptr;    // [rows], device
  const QueryTile* tiles = nullptr;  // [tile_count], device: the same tokens
  std::int64_t tile_count = 0;
  std::int64_t longest = 0;  // at least as long as any sequence in the step
  int multiprocessors = 0;
  int capability = 0;           // 10 * major + minor
  bool isolated = false;        // a token's result depends on its own sequence alone, to the last bit
  float* partials = nullptr;    // [partial_floats()]
  unsigned* arrived = nullptr;  // [rows * heads], all 0; left so

  // Of the cache, at most, that one token reads.
  std::int64_t reach() const { return longest < rule.window ? longest : rule.window; }
};

// Rotates q and k [rows, heads * head_dim] in place and files k and v in the cache.
void rope_append(Values q, Values k, Values v, const Rotation& rotation, int heads, const Place2* places,
                 std::int64_t rows, int layer, const CudaCache& cache, cudaStream_t stream);

// Workspace of attention, whatever `partials` and `arrived` are.
std::int64_t partial_floats(const AttentionProblem& problem);

// Causal softmax attention over what the cache holds from the window's beginning up to each token's own
// position: by the first of the kernels below that takes the problem, or a plain one that takes any.
void attention(const AttentionProblem& problem, cudaStream_t stream);

// Many tokens of few sequences, on the tensor cores (prefill.cu). False if it does not take this type, head
// size or device.
bool prefill_attention(const AttentionProblem& problem, cudaStream_t stream);

// Few tokens with long caches (decode.cu), and whether it takes these types and this head size; with fresh
// tokens, this rotation.
bool takes_decode(const AttentionProblem& problem);
bool takes_fresh(const AttentionProblem& problem);
void decode_attention(const AttentionProblem& problem, cudaStream_t stream);

}  // namespace qtool::cuda
