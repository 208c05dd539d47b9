// GPT-2, whose linear layers are stored transposed, and its descendants GPT-BigCode (SantaCoder, StarCoder),
// GPT-Neo and GPT-J.
#include <algorithm>
#include <initializer_list>

#include "core/model/plan.h"
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

constexpr ConfigKeys kGpt2Keys = {.hidden_size = {"n_embd", "hidden_size"},
                                  .intermediate_size = {"n_inner"},
                                  .layers = {"n_layer", "num_hidden_layers"},
                                  .heads = {"n_head", "num_attention_heads"},
                                  .kv_heads = {},
                                  .head_dim = {},
                                  .max_positions = {"n_positions", "max_position_embeddings"},
                                  .norm_eps = {"layer_norm_epsilon"},
                                  .activation = {"activation_function"}};

void refuse_cross_attention(const ConfigReader& config) {
  config.refuse_if({"add_cross_attention"}, "qtool computes models without an encoder only");
}

void configure_gpt2(const ConfigReader& config, ModelSpec& spec) {
  refuse_cross_attention(config);
  // reorder_and_upcast_attn only says in which order and precision the same product is taken.
  if (!config.flag({"scale_attn_weights"}, true)) scale_attention(spec, 1.0);
  if (!config.flag({"scale_attn_by_inverse_layer_idx"}, false)) return;
  const double scale = attention_scale_of(spec);
  std::vector<LayerSpec>& layers = layers_of(spec);
  for (std::size_t i = 0; i < layers.size(); ++i)
    layers[i].attention_scale = scale / static_cast<double>(i + 1);
}

// Without 'multi_query' each head's query, key and value stand together.
void configure_gpt_bigcode(const ConfigReader& config, ModelSpec& spec) {
  refuse_cross_attention(config);
  const bool multi_query = config.flag({"multi_query"}, true);
  spec.kv_heads = multi_query ? 1 : spec.heads;
  spec.qkv_layout = multi_query ? QkvLayout::kBlocks : QkvLayout::kGrouped;
  if (!config.flag({"scale_attn_weights"}, true)) scale_attention(spec, 1.0);
}

// 'attention_types' counts repetitions: [[["global", "local"], 12]] is twelve times the two.
std::vector<bool> local_layers(const ConfigReader& config, const ModelSpec& spec) {
  std::vector<RepeatedPattern> patterns = repeated_patterns(config, {"attention_types"});
  if (!config.has({"attention_types"})) patterns = {{{"global", "local"}, 12}};
  std::vector<bool> local;
  for (const RepeatedPattern& pattern : patterns)
    for (std::int64_t i = 0; i < pattern.times; ++i)
      for (const std::string& type : pattern.types) {
        if (type != "global" && type != "local")
          config.unsupported({"attention_types"}, "known are global and local");
        local.push_back(type == "local");
      }
  if (local.size() != static_cast<std::size_t>(spec.layers))
    config.malformed("'attention_types' makes " + std::to_string(local.size()) + " layers, but there are " +
                     std::to_string(spec.layers));
  return local;
}

void configure_gpt_neo(const ConfigReader& config, ModelSpec& spec) {
  scale_attention(spec, 1.0);  // the scale was folded into the weights when they were trained
  const std::int64_t window = config.size({"window_size"}, 256, kMaxExtent);
  const std::vector<bool> local = local_layers(config, spec);
  for (std::size_t i = 0; i < local.size(); ++i)
    if (local[i]) layers_of(spec)[i].window = window;
}

void configure_gptj(const ConfigReader& config, ModelSpec& spec) {
  if (config.null({"rotary_dim"})) config.unsupported({"rotary_dim"}, "it must be a number of dimensions");
  spec.rope.rotary_dim = static_cast<int>(config.size({"rotary_dim"}, 64, spec.head_dim));
  if (spec.rope.rotary_dim % 2 != 0)
    config.malformed("'rotary_dim' must be even, is " + std::to_string(spec.rope.rotary_dim));
  if (spec.rope.rotary_dim > spec.head_dim)
    config.malformed("'rotary_dim' is missing, and a head has less than the 64 dimensions that it then is");
}

// A product of sizes that a file may make as large as it likes; no machine has the memory that this cuts off.
std::int64_t product_of(std::initializer_list<double> factors) {
  double product = 1.0;
  for (const double factor : factors) product *= factor;
  return static_cast<std::int64_t>(std::min(product, 1e18));
}

// A causal mask of bools, [max_positions, max_positions].
std::int64_t one_mask(const ModelSpec& spec) {
  const auto positions = static_cast<double>(spec.max_positions);
  return product_of({positions, positions});
}

std::int64_t mask_a_layer(const ModelSpec& spec) {
  const auto positions = static_cast<double>(spec.max_positions);
  return product_of({static_cast<double>(spec.layers), positions, positions});
}

// GPT-J's own table of sines and cosines in every layer, float32 [max_positions, rotary_dim]; it has none of
// the frequencies that others keep.
std::int64_t sinusoids_a_layer(const ModelSpec& spec) {
  return product_of({static_cast<double>(spec.layers), static_cast<double>(spec.max_positions),
                     static_cast<double>(spec.rope.rotary_dim), sizeof(float)}) -
         rotary_buffer_bytes(spec.rope.rotary_dim);
}

// Modules that GPT-2 and GPT-BigCode share; the latter's linear layers are nn.Linear.
std::vector<ModuleName> gpt2_modules(ModuleKind linear) {
  return {{Role::kEmbedding, "transformer.wte"},
          {Role::kPositions, "transformer.wpe"},
          {Role::kInputNorm, "transformer.h.{}.ln_1"},
          {Role::kQkv, "transformer.h.{}.attn.c_attn", linear},
          {Role::kAttentionOutput, "transformer.h.{}.attn.c_proj", linear},
          {Role::kMlpNorm, "transformer.h.{}.ln_2"},
          {Role::kUp, "transformer.h.{}.mlp.c_fc", linear},
          {Role::kDown, "transformer.h.{}.mlp.c_proj", linear},
          {Role::kFinalNorm, "transformer.ln_f"},
          {Role::kHead, "lm_head"}};
}

}  // namespace

const Architecture kGpt2{
    .class_names = {"GPT2LMHeadModel", "GPT2Model"},
    .base_prefix = "transformer.",
    .modules = gpt2_modules(ModuleKind::kConv1D),
    .keys = kGpt2Keys,
    .rotation = Rotation::kNone,
    .model = {.model_type = "gpt2",
              .vocab_size = 50257,
              .hidden_size = 768,
              .layers = 12,
              .heads = 12,
              .max_positions = 1024,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .qkv_layout = QkvLayout::kBlocks,
              .gated_mlp = false,
              .activation = Activation::kGeluTanh,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .learned_positions = 0,
              .tied_head = true,
              .eos_ids = {50256},
              .bos_id = 50256},
    .configure = configure_gpt2,
};

const Architecture kGptBigCode{
    .class_names = {"GPTBigCodeForCausalLM", "GPTBigCodeModel"},
    .base_prefix = "transformer.",
    .modules = gpt2_modules(ModuleKind::kLinear),
    .keys = kGpt2Keys,
    .rotation = Rotation::kNone,
    .model = {.model_type = "gpt_bigcode",
              .vocab_size = 50257,
              .hidden_size = 768,
              .layers = 12,
              .heads = 12,
              .max_positions = 1024,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .activation = Activation::kGeluTanh,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .learned_positions = 0,
              .tied_head = true,
              .eos_ids = {50256},
              .bos_id = 50256},
    .configure = configure_gpt_bigcode,
    .more_buffers = one_mask,
};

const Architecture kGptNeo{
    .class_names = {"GPTNeoForCausalLM", "GPTNeoModel"},
    .base_prefix = "transformer.",
    .modules = {{Role::kEmbedding, "transformer.wte"},
                {Role::kPositions, "transformer.wpe"},
                {Role::kInputNorm, "transformer.h.{}.ln_1"},
                {Role::kQuery, "transformer.h.{}.attn.attention.q_proj"},
                {Role::kKey, "transformer.h.{}.attn.attention.k_proj"},
                {Role::kValue, "transformer.h.{}.attn.attention.v_proj"},
                {Role::kAttentionOutput, "transformer.h.{}.attn.attention.out_proj"},
                {Role::kMlpNorm, "transformer.h.{}.ln_2"},
                {Role::kUp, "transformer.h.{}.mlp.c_fc"},
                {Role::kDown, "transformer.h.{}.mlp.c_proj"},
                {Role::kFinalNorm, "transformer.ln_f"},
                {Role::kHead, "lm_head"}},
    .keys = {.layers = {"num_layers", "num_hidden_layers"},
             .heads = {"num_heads", "num_attention_heads"},
             .kv_heads = {},
             .head_dim = {},
             .norm_eps = {"layer_norm_epsilon"},
             .activation = {"activation_function"}},
    .rotation = Rotation::kNone,
    .model = {.model_type = "gpt_neo",
              .vocab_size = 50257,
              .hidden_size = 2048,
              .layers = 24,
              .heads = 16,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .activation = Activation::kGeluTanh,
              .attention_output_bias = true,
              .mlp_bias = true,
              .learned_positions = 0,
              .tied_head = true,
              .eos_ids = {50256},
              .bos_id = 50256},
    .configure = configure_gpt_neo,
    .more_buffers = mask_a_layer,
};

const Architecture kGptJ{
    .class_names = {"GPTJForCausalLM"},
    .base_prefix = "transformer.",
    .modules = {{Role::kEmbedding, "transformer.wte"},
                {Role::kInputNorm, "transformer.h.{}.ln_1"},
                {Role::kQuery, "transformer.h.{}.attn.q_proj"},
                {Role::kKey, "transformer.h.{}.attn.k_proj"},
                {Role::kValue, "transformer.h.{}.attn.v_proj"},
                {Role::kAttentionOutput, "transformer.h.{}.attn.out_proj"},
                {Role::kUp, "transformer.h.{}.mlp.fc_in"},
                {Role::kDown, "transformer.h.{}.mlp.fc_out"},
                {Role::kFinalNorm, "transformer.ln_f"},
                {Role::kHead, "lm_head"}},
    .keys = kGpt2Keys,
    .rotation = Rotation::kOwn,
    .model = {.model_type = "gptj",
              .vocab_size = 50400,
              .hidden_size = 4096,
              .layers = 28,
              .heads = 16,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .parallel = true,
              .one_norm = true,
              .activation = Activation::kGeluTanh,
              .mlp_bias = true,
              .head_bias = true,
              .rope_pairs = RopePairs::kNeighbours,
              .eos_ids = {50256},
              .bos_id = 50256},
    .configure = configure_gptj,
    .more_buffers = sinusoids_a_layer,
};

}  // namespace qtool
