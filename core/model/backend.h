// What a forward pass may ask of a device: memory, weights in the device's own
// form, and small operations.
//
// The forward pass (core/model/transformer) is written once against this
// interface. The base class composes blocks from the operations; a device
// overrides a block where one fused kernel does it better, and the unfused
// operations stay as its test. Activations are float32 on the CPU; another
// device may keep them narrower.
//
// Shapes: `rows` counts tokens, of all sequences of the step together.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/spec.h"
#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool {

// A run of consecutive tokens of one sequence within a step: prefill has one
// long segment, a batched decode step has many of length 1.
struct Segment {
  int sequence = 0;           // slot in the cache
  std::int64_t position = 0;  // of the segment's first token in its sequence
  std::int64_t tokens = 0;
};

class Backend {
 public:
  // Things in device memory. Each knows its size; all are made by the backend
  // that uses them.
  struct Resident {
    virtual ~Resident() = default;
    virtual std::int64_t bytes() const = 0;
  };
  struct Array : Resident {};   // activations [rows, cols]
  struct Linear : Resident {};  // a linear layer: weight [out, in] in any form, bias [out] or none
  struct Table : Resident {};   // an embedding [vocab, hidden], a norm's weight or bias, slopes [heads]
  struct Rope : Resident {};    // cos and sin [positions, rotary_dim / 2]
  struct Cache : Resident {};   // keys and values [layers, sequences, positions, kv_heads, head_dim]
  struct Ids : Resident {};     // token ids [rows] on their way to the host

  // out = (x - mean) / sqrt(variance + eps) * (weight + weight_offset) + bias, the variance around the mean
  // and undivided by n - 1; kRms: mean 0, that is x / sqrt(mean(x^2) + eps). Without a weight the factor is
  // 1.
  struct Norm {
    NormKind kind = NormKind::kRms;
    float eps = 0.0f;
    const Table* weight = nullptr;
    float weight_offset = 0.0f;
    const Table* bias = nullptr;
  };

  // What a layer's attention does with q * k before the softmax, in this order: times `scale`, softcap,
  // plus slopes[head] * (key position - query position), what lies outside the window is left out.
  struct AttentionOptions {
    float scale = 1.0f;
    float softcap = 0.0f;           // softcap * tanh(score / softcap); 0: none
    std::int64_t window = 0;        // the token itself and window - 1 before it; 0: all before it
    const Table* slopes = nullptr;  // [heads] float32 (ALiBi)
    // Falcon: plus scale * RN(slopes[head] * RN(key position)) instead, RN to bfloat16. What the rounding
    // does depends on the position itself, not only on the distance, and is seen from a few dozen tokens on.
    bool slopes_bfloat16 = false;
  };

  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu: avx512, 16 threads"

  // --- memory; errors: kMemory with what was needed and what was free
  virtual std::unique_ptr<Array> make_array(std::int64_t rows, std::int64_t cols) = 0;
  // The operands of a product are rounded to `compute_dtype` and summed in
  // float32. An Int8Weight follows LLM.int8.
  virtual std::unique_ptr<Linear> make_linear(Weight weight, std::optional<Tensor> bias,
                                              DType compute_dtype) = 0;
  virtual std::unique_ptr<Table> make_table(Tensor values) = 0;
  // The output head that is the embedding: shares its memory (bytes() is 0);
  // `embedding` outlives it.
  virtual std::unique_ptr<Linear> make_tied_head(const Table& embedding, DType compute_dtype) = 0;
  virtual std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim, RopePairs pairs) = 0;
  virtual void set_rope(Rope& rope, std::int64_t first_position, std::span<const float> cos,
                        std::span<const float> sin) = 0;  // [n, rotary_dim / 2] each
  virtual std::unique_ptr<Cache> make_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                            int head_dim, DType dtype) = 0;
  virtual std::unique_ptr<Ids> make_ids(std::int64_t rows);

  // --- operations on `rows` tokens
  virtual void embed(const Table& embedding, std::span<const std::int32_t> ids, Array& out) = 0;
  // x[r] += positions[first + position of token r]: learned positions
  virtual void add_positions(Array& x, const Table& positions, std::int64_t first,
                             std::span<const Segment> segments) = 0;
  // Each row of x [rows, cols]; out may be x.
  virtual void norm(const Array& x, const Norm& norm, std::int64_t rows, Array& out) = 0;
  // In place, each of the `groups` equal pieces of every row by itself; the weight (and bias) has the columns
  // of one piece, or of all.
  virtual void norm_groups(Array& x, const Norm& norm, int groups, std::int64_t rows) = 0;
  virtual void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) = 0;
  // The columns of `fused` are `groups` times [a | b | ...], an equal share of each output in each group:
  // takes them apart.
  virtual void split(const Array& fused, int groups, std::int64_t rows, std::span<Array* const> outs) = 0;
  // Rotates q [rows, heads * head_dim] and k [rows, kv_heads * head_dim] in place (not, without `rope`),
  // appends k and v to layer `layer` of the cache at the segments' positions.
  virtual void rope_append(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                           std::span<const Segment> segments, int layer, Cache& cache) = 0;
  // Causal softmax attention of q over what the cache holds up to each token's own position.
  virtual void attention(const Array& q, const Cache& cache, int layer, int heads,
                         const AttentionOptions& options, std::span<const Segment> segments, Array& out) = 0;
  // gate = act(gate) * up; gate = act(gate) without `up`
  virtual void gate(Array& gate, const Array* up, Activation activation, std::int64_t rows) = 0;
  virtual void add(Array& x, const Array& y, float scale, std::int64_t rows) = 0;  // x += scale * y
  virtual void clear(Array& x, std::int64_t rows) = 0;                             // x = 0
  virtual void scale(Array& x, float factor, std::int64_t rows) = 0;               // x *= factor
  virtual void clamp(Array& x, float limit, std::int64_t rows) = 0;                // x to [-limit, limit]
  virtual void softcap(Array& x, float cap, std::int64_t rows) = 0;                // x = cap * tanh(x / cap)
  // x[rows[i]] += weights[i] * y[i]; no row twice
  virtual void scatter_add(const Array& y, std::span<const std::int64_t> rows, std::span<const float> weights,
                           Array& x) = 0;
  // out[i] = x[rows[i]]: picks the tokens whose logits are wanted
  virtual void gather(const Array& x, std::span<const std::int64_t> rows, Array& out) = 0;
  // Copies the first `rows` rows to the host as float32.
  virtual void read(const Array& x, std::int64_t rows, std::span<float> out) = 0;
  // Of each of the first `rows` rows of x [., columns], the column of the
  // largest value; the first of equals. -1 where a value is NaN or +infinity.
  virtual void argmax(const Array& x, std::int64_t rows, std::int64_t columns, Ids& out);
  // Copies the first out.size() of what argmax left to the host.
  virtual void read_ids(const Ids& ids, std::span<std::int32_t> out);

  // --- blocks: compositions of the operations above, in this order. A device overrides one where fewer
  // kernels do it better; the composition stays as its test. Arrays named scratch are overwritten.
  // outs[i] = linears[i](norm(x))
  virtual void norm_linears(const Array& x, const Norm& norm, std::span<const Linear* const> linears,
                            std::int64_t rows, Array& scratch, std::span<Array* const> outs);
  // rope_append, then attention of the same tokens; q and k are scratch afterwards
  virtual void rope_attention(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                              const AttentionOptions& options, std::span<const Segment> segments, int layer,
                              Cache& cache, Array& out);
  // x += scale * linear(y)
  virtual void linear_add(const Array& y, const Linear& weight, float scale, std::int64_t rows,
                          Array& scratch, Array& x);
  // x += scale * linear(act(gate) * up), or linear(act(gate)) without `up`; gate is scratch too
  virtual void gated_linear_add(Array& gate, const Array* up, Activation activation, const Linear& weight,
                                float scale, std::int64_t rows, Array& scratch, Array& x);

  struct GatedMlp {
    Norm norm;
    const Linear& gate;
    const Linear& up;
    const Linear& down;
    Activation activation;
    float scale;
  };
  // x += scale * down(act(gate(norm(x))) * up(norm(x))): norm_linears and gated_linear_add. `gate` and `up`
  // are scratch of the two products' shapes.
  virtual void gated_mlp_add(const GatedMlp& mlp, std::int64_t rows, Array& scratch, Array& gate, Array& up,
                             Array& x);

  // --- steps: a device may record what `body` asks of it and replay that for
  // later steps of the same form
  struct Recordings {
    virtual ~Recordings() = default;
  };
  virtual std::unique_ptr<Recordings> make_recordings() { return std::make_unique<Recordings>(); }
  // Runs `body`, which computes these tokens by the operations above, reads nothing back and depends on
  // nothing that changes between steps but `segments` and `ids`. `recordings` is the body's own.
  virtual void run_step(Recordings& recordings, std::span<const Segment> segments,
                        std::span<const std::int32_t> ids, const std::function<void()>& body);

  // Memory that can still be had for weights, cache and workspace; nothing
  // where that is the machine's own memory.
  virtual std::optional<std::int64_t> free_bytes() const { return std::nullopt; }

  // From now on, what is computed of a token depends on its own sequence alone, to the last bit: not on which
  // others share its steps, nor on how a prompt is cut into steps. Slower where the fastest product is one
  // for many rows. False: this device cannot promise it.
  virtual bool isolate_rows() { return false; }
};

}  // namespace qtool
