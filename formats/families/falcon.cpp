// Falcon in its three layouts. Its linear layers are a class of their own, which bitsandbytes does not
// replace.
//                    multi_query     parallel_attn   norms                query_key_value
//   Falcon-RW 1B     no              no              two, in sequence     a group a head, ALiBi
//   Falcon 7B        yes             yes             one                  [queries | one key | one value]
//   Falcon 40B, 11B  new_decoder_architecture        ln_attn and ln_mlp   a group for each of num_kv_heads
//                                                    (11B: one)
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_falcon(const ConfigReader& config, ModelSpec& spec) {
  const bool new_decoder = config.flag({"new_decoder_architecture"}, false);
  const bool multi_query = config.flag({"multi_query"}, true);
  spec.parallel = config.flag({"parallel_attn"}, true);
  const std::int64_t parallel_norms = config.integer({"num_ln_in_parallel_attn"}, new_decoder ? 2 : 1);
  if (new_decoder && !spec.parallel)
    config.unsupported({"parallel_attn"}, "new_decoder_architecture computes in parallel only");
  if (parallel_norms != 1 && !(new_decoder && parallel_norms == 2))
    config.unsupported({"num_ln_in_parallel_attn"}, "known are 1 and, with new_decoder_architecture, 2");
  spec.one_norm = spec.parallel && parallel_norms == 1;

  spec.qkv_layout = QkvLayout::kGrouped;
  if (new_decoder) {
    spec.kv_heads = static_cast<int>(config.size({"num_kv_heads"}, spec.heads, kMaxLayers));
  } else if (multi_query) {
    spec.kv_heads = 1;
    spec.qkv_layout = QkvLayout::kBlocks;
  }
  if (config.flag({"alibi"}, false)) {
    spec.alibi = Alibi::kFalcon;
    for (LayerSpec& layer : layers_of(spec)) layer.rope = LayerRope::kNone;
  }
}

constexpr ModuleKind kOwnClass = ModuleKind::kOther;

}  // namespace

const Architecture kFalcon{
    .class_names = {"FalconForCausalLM", "FalconModel"},
    .base_prefix = "transformer.",
    .modules = {{Role::kEmbedding, "transformer.word_embeddings"},
                {Role::kInputNorm, "transformer.h.{}.input_layernorm"},
                {Role::kInputNorm, "transformer.h.{}.ln_attn"},
                {Role::kQkv, "transformer.h.{}.self_attention.query_key_value", kOwnClass},
                {Role::kAttentionOutput, "transformer.h.{}.self_attention.dense", kOwnClass},
                {Role::kMlpNorm, "transformer.h.{}.post_attention_layernorm"},
                {Role::kMlpNorm, "transformer.h.{}.ln_mlp"},
                {Role::kUp, "transformer.h.{}.mlp.dense_h_to_4h", kOwnClass},
                {Role::kDown, "transformer.h.{}.mlp.dense_4h_to_h", kOwnClass},
                {Role::kFinalNorm, "transformer.ln_f"},
                {Role::kHead, "lm_head"}},
    .keys = {.hidden_size = {"n_embed", "hidden_size"},
             .intermediate_size = {"ffn_hidden_size"},
             .kv_heads = {},
             .head_dim = {},
             .norm_eps = {"layer_norm_epsilon"},
             .activation = {"activation"},
             .qkv_bias = {"bias"},
             .attention_output_bias = {"bias"},
             .mlp_bias = {"bias"}},
    .model = {.model_type = "falcon",
              .vocab_size = 65024,
              .hidden_size = 4544,
              .layers = 32,
              .heads = 71,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .activation = Activation::kGeluErf,
              .tied_head = true,
              .eos_ids = {11},
              .bos_id = 11},
    .configure = configure_falcon,
};

}  // namespace qtool
