// One architecture as data: everything the forward pass must know, and nothing a file format says otherwise.
//
// A field enters when two families differ by it. formats/architectures fills it from config.json and has
// validated every value against the others (heads divide, sizes positive, factors finite).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace qtool {

enum class Activation : std::uint8_t { kSilu, kGeluErf, kGeluTanh, kRelu, kRelu2, kQuickGelu };

// How a norm scales its input: by its root mean square, or to mean 0 and variance 1.
enum class NormKind : std::uint8_t { kRms, kLayer };

// Where a block's two norms stand.
//   kBefore       x += f(norm(x))                      Llama and most others
//   kBeforeAfter  x += norm2(f(norm(x)))               Gemma 2 and 3
//   kAfter        x += norm(f(x))                      OLMo 2
//   kOnResidual   x = norm(x + f(x))                   OPT-350m, as the first transformers had it
enum class NormPlace : std::uint8_t { kBefore, kBeforeAfter, kAfter, kOnResidual };

// How a file stores the projections to queries, keys and values, and so how they are computed: as three
// products, or as one whose columns are `groups` times [queries of the group's heads | one key | one value].
//   kSeparate      three matrices
//   kBlocks        one group: [all queries | all keys | all values]         GPT-2, Phi-3, MPT, Falcon 7B
//   kGrouped       a group for each key/value head                          GPT-NeoX, BLOOM, Falcon 40B
enum class QkvLayout : std::uint8_t { kSeparate, kBlocks, kGrouped };

// What q and k are normalised over before they are rotated.
//   kHead   each head by one weight [head_dim]; kEachHead: by its own, [heads, head_dim]; kAll: all heads
//   together, [heads * head_dim]
enum class QkNorm : std::uint8_t { kNone, kHead, kEachHead, kAll };

// Columns that rotate together: i with i + rotary_dim / 2, or 2i with 2i + 1.
enum class RopePairs : std::uint8_t { kHalves, kNeighbours };

// Which table a layer rotates by. Local: Gemma 3's sliding layers, with a base of their own.
enum class LayerRope : std::uint8_t { kNone, kGlobal, kLocal };

// Linear biases on attention scores: slope[head] * (key position - query position).
//   kBloom   powers of 2^(-8/n) for the nearest power of two n <= heads, then odd powers of the 2n series
//   kMpt     the series of the next power of two, every second of it first
//   kFalcon  as kBloom, but rounded to bfloat16, as is its product with the key's position; and multiplied by
//            the attention scale like q * k
enum class Alibi : std::uint8_t { kNone, kBloom, kMpt, kFalcon };

enum class RopeType : std::uint8_t { kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

// Rotary position embedding. Unused fields keep their defaults.
struct RopeSpec {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  int rotary_dim = 0;   // leading dimensions of a head that rotate; even
  double factor = 1.0;  // linear, dynamic, llama3, yarn; longrope: max / original positions
  std::int64_t original_max_positions = 0;   // context the model was trained with
  double low_freq_factor = 1.0;              // llama3
  double high_freq_factor = 4.0;             // llama3
  double beta_fast = 32.0;                   // yarn
  double beta_slow = 1.0;                    // yarn
  bool truncate = true;                      // yarn: round the correction range to whole dimensions
  std::optional<double> mscale{};            // yarn
  std::optional<double> mscale_all_dim{};    // yarn
  std::optional<double> attention_factor{};  // yarn, longrope: scale of cos and sin, if given
  std::vector<double> short_factor{};        // longrope [rotary_dim / 2]
  std::vector<double> long_factor{};         // longrope [rotary_dim / 2]

  bool operator==(const RopeSpec&) const = default;
};

// A mixture of experts in place of an MLP: probabilities = softmax(router(x)); the `chosen` largest take
// part, each with an MLP of its own, weighted by its probability.
struct ExpertSpec {
  int experts = 0;  // 0: no layer has any
  int chosen = 0;   // per token
  std::int64_t intermediate_size = 0;
  bool normalized = true;                     // the chosen probabilities are scaled to a sum of 1
  std::int64_t shared_intermediate_size = 0;  // of one more MLP that every token takes; 0: none
                                              // its result is weighted by sigmoid(shared_gate(x))

  bool operator==(const ExpertSpec&) const = default;
};

// What one layer has for itself.
struct LayerSpec {
  std::int64_t window = 0;  // a token sees itself and window - 1 tokens before it; 0: all
  LayerRope rope = LayerRope::kGlobal;
  bool experts = false;          // ModelSpec::experts instead of an MLP
  double attention_scale = 0.0;  // of q * k; 0: 1 / sqrt(head_dim)

  bool operator==(const LayerSpec&) const = default;
};

struct ModelSpec {
  std::string architecture{};   // class name: "LlamaForCausalLM"
  std::string model_type{};     // "llama"
  std::int64_t vocab_size = 0;  // rows of the embedding
  std::int64_t hidden_size = 0;
  std::int64_t embedding_size = 0;  // columns of the embedding, if not hidden_size (then projected)
  std::int64_t intermediate_size = 0;
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
  std::int64_t max_positions = 0;     // max_position_embeddings
  std::vector<LayerSpec> by_layer{};  // [layers], or empty: all as LayerSpec's defaults

  // Norms. Which of them exist is said by their places; all of a model are of one kind.
  NormKind norm = NormKind::kRms;
  NormPlace norm_place = NormPlace::kBefore;
  double norm_eps = 1e-6;
  bool norm_weight = true;      // OLMo's norms have none
  bool norm_bias = false;       // kLayer only
  bool norm_plus_one = false;   // the stored weight is that much below the factor: Gemma, Nemotron
  bool final_norm = true;       // OPT-350m has none
  bool embedding_norm = false;  // BLOOM
  QkNorm qk_norm = QkNorm::kNone;
  NormKind qk_norm_kind = NormKind::kRms;
  bool qk_norm_bias = false;

  // The two blocks of a layer.
  QkvLayout qkv_layout = QkvLayout::kSeparate;
  bool fused_gate_up = false;       // one matrix [gate | up]
  bool gated_mlp = true;            // down(act(gate) * up), else down(act(up))
  bool parallel = false;            // attention and MLP both read the layer's input: x += attn(.) + mlp(.)
  bool one_norm = false;            // parallel: both behind the same norm
  bool residual_from_norm = false;  // BLOOM: x = norm(x) before x += f(x)
  Activation activation = Activation::kSilu;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool head_bias = false;
  ExpertSpec experts{};

  // Positions.
  RopeSpec rope{};                       // unused where every layer has LayerRope::kNone
  std::optional<RopeSpec> local_rope{};  // of layers with LayerRope::kLocal
  RopePairs rope_pairs = RopePairs::kHalves;
  std::optional<std::int64_t> learned_positions{};  // first row of the table in use (OPT: 2); none: no table
  Alibi alibi = Alibi::kNone;

  // Numbers in the flow.
  double embedding_scale = 1.0;    // rounded to the dense dtype, then multiplied in (Gemma, Granite)
  double residual_scale = 1.0;     // of a block's result before it is added (Granite)
  double logit_scale = 1.0;        // Cohere; Granite's divisor inverted
  double attention_softcap = 0.0;  // cap * tanh(score / cap); 0: none (Gemma 2)
  double logit_softcap = 0.0;      // the same of logits
  double qkv_limit = 0.0;          // queries, keys and values are clamped to +-limit; 0: not (OLMo, MPT)

  bool tied_head = false;               // the output head is the embedding matrix
  DType dtype = DType::kBF16;           // of the model: of everything that is not quantized
  std::vector<std::int64_t> eos_ids{};  // from generation_config.json, else config.json
  std::optional<std::int64_t> bos_id{};

  LayerSpec layer(int index) const {
    return by_layer.empty() ? LayerSpec{} : by_layer[static_cast<std::size_t>(index)];
  }
  std::int64_t embedding_columns() const { return embedding_size ? embedding_size : hidden_size; }

  bool operator==(const ModelSpec&) const = default;
};

}  // namespace qtool
