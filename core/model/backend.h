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
  struct Table : Resident {};   // an embedding [vocab, hidden] or a norm's weight [hidden]
  struct Rope : Resident {};    // cos and sin [positions, rotary_dim / 2]
  struct Cache : Resident {};   // keys and values [layers, sequences, positions, kv_heads, head_dim]

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
  virtual std::unique_ptr<Rope> make_rope(std::int64_t positions, int rotary_dim) = 0;
  virtual void set_rope(Rope& rope, std::int64_t first_position, std::span<const float> cos,
                        std::span<const float> sin) = 0;  // [n, rotary_dim / 2] each
  virtual std::unique_ptr<Cache> make_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                            int head_dim, DType dtype) = 0;

  // --- operations on `rows` tokens
  virtual void embed(const Table& embedding, std::span<const std::int32_t> ids, Array& out) = 0;
  // out = x / sqrt(mean(x^2) + eps) * weight, as transformers' LlamaRMSNorm
  virtual void rms_norm(const Array& x, const Table& weight, float eps, std::int64_t rows, Array& out) = 0;
  virtual void linear(const Array& x, const Linear& weight, std::int64_t rows, Array& out) = 0;
  // Rotates q [rows, heads * head_dim] and k [rows, kv_heads * head_dim] in
  // place by halves, appends k and v to layer `layer` of the cache at the
  // segments' positions.
  virtual void rope_append(Array& q, Array& k, const Array& v, const Rope& rope, int heads,
                           std::span<const Segment> segments, int layer, Cache& cache) = 0;
  // Causal softmax attention of q over everything the cache holds up to each
  // token's own position.
  virtual void attention(const Array& q, const Cache& cache, int layer, int heads, float scale,
                         std::span<const Segment> segments, Array& out) = 0;
  virtual void gate(Array& gate, const Array& up, Activation activation,
                    std::int64_t rows) = 0;                           // gate = act(gate)*up
  virtual void add(Array& x, const Array& y, std::int64_t rows) = 0;  // x += y
  // out[i] = x[rows[i]]: picks the tokens whose logits are wanted
  virtual void gather(const Array& x, std::span<const std::int64_t> rows, Array& out) = 0;
  // Copies the first `rows` rows to the host as float32.
  virtual void read(const Array& x, std::int64_t rows, std::span<float> out) = 0;
  // Of each of the first `rows` rows of x [., columns], the column of the
  // largest value; the first of equals.
  virtual void argmax(const Array& x, std::int64_t rows, std::int64_t columns, std::span<std::int32_t> out);

  // --- blocks: compositions of the operations above, in this order. A device
  // overrides one where fewer kernels do it better; the composition stays as
  // its test. Arrays named scratch are overwritten. outs[i] =
  // linears[i](rms_norm(x))
  virtual void norm_linears(const Array& x, const Table& norm, float eps,
                            std::span<const Linear* const> linears, std::int64_t rows, Array& scratch,
                            std::span<Array* const> outs);
  // x += linear(y)
  virtual void linear_add(const Array& y, const Linear& weight, std::int64_t rows, Array& scratch, Array& x);
  // x += linear(act(gate) * up); gate is scratch too
  virtual void gated_linear_add(Array& gate, const Array& up, Activation activation, const Linear& weight,
                                std::int64_t rows, Array& scratch, Array& x);

  // --- steps: a device may record what `body` asks of it and replay that for
  // later steps of the same form
  struct Recordings {
    virtual ~Recordings() = default;
  };
  virtual std::unique_ptr<Recordings> make_recordings() { return std::make_unique<Recordings>(); }
  // Runs `body`, which computes these tokens by the operations above and
  // depends on nothing that changes between steps but `segments` and `ids`.
  // `recordings` is the body's own.
  virtual void run_step(Recordings& recordings, std::span<const Segment> segments,
                        std::span<const std::int32_t> ids, const std::function<void()>& body);

  // Memory that can still be had for weights, cache and workspace; nothing
  // where that is the machine's own memory.
  virtual std::optional<std::int64_t> free_bytes() const { return std::nullopt; }
};

}  // namespace qtool
