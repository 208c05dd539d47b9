// The forward pass, once: a ModelSpec says what the layers look like, a Backend says how they are computed, a
// WeightSource says what is in them.
//
//   x = embed(ids)
//   per layer:  x += o(attention(rope(q), rope(k), v))     q, k, v = linear(norm(x))
//               x += down(act(gate) * up)                  gate, up = linear(norm(x))
//   logits = head(norm(x))
//
// That is Llama; every other family differs from it by the fields of ModelSpec, each of which is looked at in
// one place of transformer.cpp or layer.cpp.
//
// All memory is allocated by the constructor; a step allocates nothing on the device.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/model/backend.h"
#include "core/model/experts.h"
#include "core/model/memory.h"
#include "core/model/model_weights.h"
#include "core/model/rope.h"
#include "core/model/spec.h"
#include "core/model/weight_source.h"
#include "core/model/workspace.h"

namespace qtool {

class Transformer {
 public:
  struct Options {
    DType compute_dtype = DType::kF32;  // of products with 4-bit weights
    DType dense_dtype =
        DType::kF32;  // of all other products: bitsandbytes leaves them in the model's own type
    DType kv_dtype = DType::kF32;
    Capacity capacity;
  };

  // Asks `source` for every weight once. `loaded` hears of the bytes of each as it arrives. `backend`
  // outlives the transformer. Errors: kMalformed for a weight of another shape than `spec` says; kMemory;
  // what the source throws.
  Transformer(ModelSpec spec, Backend& backend, WeightSource& source, const Options& options,
              const std::function<void(std::int64_t)>& loaded);

  const ModelSpec& spec() const { return spec_; }
  const Capacity& capacity() const { return options_.capacity; }

  // What is computed of a step besides its layers.
  enum class UpTo : std::uint8_t { kLayers, kLogits, kTokens };

  // Runs the segments' tokens (`ids`, one segment after the other, at most capacity.chunk_tokens) through the
  // layers and appends their keys and values to the cache; a segment continues what the cache holds before
  // its position. `length`: when the step is a piece of a longer prompt, the tokens of the longest sequence
  // once all of it is in; 0 for a step that stands alone. Only frequencies that depend on the length look at
  // it. `up_to`: what will be asked of all tokens. A step of one token for each segment computes it then and
  // there, which saves the device a pause and a few launches; a longer one computes it when asked.
  void forward(std::span<const Segment> segments, std::span<const std::int32_t> ids, std::int64_t length = 0,
               UpTo up_to = UpTo::kLayers);

  // Logits [rows, vocab] of tokens of the last step, by their index in its `ids`; at most
  // capacity.logit_rows. Valid until the next call.
  std::span<const float> logits(std::span<const std::int64_t> rows);
  // The most probable next token of each row, the first of equals, found where the logits are.
  void greedy(std::span<const std::int64_t> rows, std::span<std::int32_t> tokens);

  // --- what is allocated
  std::int64_t weights_bytes() const;   // all that the checkpoint stores of them, statistics included
  std::int64_t kv_cache_bytes() const;  // equal to kv_cache_bytes(spec, ...)
  std::int64_t workspace_bytes()
      const;  // equal to workspace_bytes(spec, capacity) where activations are float32

  // Bytes a decode step of one token reads: every weight but an untied embedding (of which it is one row) and
  // the experts that are not chosen, and the cache of `context_tokens` positions.
  std::int64_t bytes_per_decode_step(std::int64_t context_tokens) const;

 private:
  struct Step;      // what of a step every operation needs
  struct Products;  // linear layers that read the same input
  struct RopeTable {
    RopeSpec spec;
    std::unique_ptr<Backend::Rope> table;  // null: no layer rotates by it
  };

  // transformer.cpp
  void allocate();
  RopeTable make_rope(LayerRope which, const RopeSpec& rope);
  void set_rope_rows(const RopeTable& rope, const RopeFrequencies& frequencies, std::int64_t first_position,
                     std::int64_t count);
  void follow_length(std::span<const Segment> segments, std::int64_t length);
  void check(std::span<const Segment> segments, std::span<const std::int32_t> ids) const;
  void embed(const Step& step, std::span<const std::int32_t> ids);
  void compute_logits(const Backend::Array& last, std::int64_t rows);
  void need_logits(std::span<const std::int64_t> rows);

  // layer.cpp
  void run_layer(int index, const Step& step);
  void add_attention_products(const RoleWeights& layer, Products& products) const;
  void add_mlp_products(const RoleWeights& layer, Products& products) const;
  void project(const RoleWeights& layer, Role norm, const Products& products, const Step& step);
  void attend(int index, const Step& step);
  void finish_attention(const RoleWeights& layer, const Step& step);
  void finish_mlp(const RoleWeights& layer, const Step& step);
  void finish_block(const RoleWeights& layer, Role norm, Backend::Array& result, const Step& step);
  void run_experts(const RoleWeights& layer, const Step& step);
  void add_expert(const RoleWeights& layer, int expert, const Backend::Array& input);
  void add_shared_expert(const RoleWeights& layer, const Backend::Array& input, const Step& step);
  Backend::Norm norm_of(const RoleWeights& weights, Role role) const;
  Backend::Norm qk_norm_of(const RoleWeights& weights, Role role) const;

  ModelSpec spec_;
  Backend& backend_;
  Options options_;
  ModelWeights weights_;
  RopeTable global_rope_, local_rope_;
  std::unique_ptr<Backend::Table> slopes_;  // ALiBi, [heads]
  std::unique_ptr<Backend::Cache> cache_;
  std::array<std::unique_ptr<Backend::Recordings>, 3> recordings_;  // by UpTo
  Workspace space_;
  std::unique_ptr<Backend::Ids> likeliest_;  // [logit_rows]
  std::vector<float> host_logits_;           // [logit_rows, vocab]
  std::vector<float> cos_, sin_;             // rows on their way to the device
  std::vector<std::int32_t> host_likeliest_;
  std::int64_t step_rows_ = 0;    // tokens of the last step
  bool has_logits_ = false;       // of all of them, in kLogits
  bool has_likeliest_ = false;    // of all of them, in likeliest_
  float embedding_scale_ = 1.0f;  // rounded as transformers rounds it

  std::vector<float> router_logits_;         // [tokens, experts], on their way to the host
  std::vector<ExpertTokens> expert_tokens_;  // [experts]
};

struct Transformer::Step {
  std::span<const Segment> segments;
  std::int64_t rows;
};

}  // namespace qtool
