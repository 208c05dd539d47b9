// BLOOM and BLOOMZ: ALiBi, a norm behind the embedding.
#include "formats/families/families.h"

namespace qtool {
namespace {

void configure_bloom(const ConfigReader& config, ModelSpec& spec) {
  spec.residual_from_norm = config.flag({"apply_residual_connection_post_layernorm"}, false);
}

}  // namespace

const Architecture kBloom{
    .class_names = {"BloomForCausalLM", "BloomModel"},
    .base_prefix = "transformer.",
    .modules = {{Role::kEmbedding, "transformer.word_embeddings"},
                {Role::kEmbeddingNorm, "transformer.word_embeddings_layernorm"},
                {Role::kInputNorm, "transformer.h.{}.input_layernorm"},
                {Role::kQkv, "transformer.h.{}.self_attention.query_key_value"},
                {Role::kAttentionOutput, "transformer.h.{}.self_attention.dense"},
                {Role::kMlpNorm, "transformer.h.{}.post_attention_layernorm"},
                {Role::kUp, "transformer.h.{}.mlp.dense_h_to_4h"},
                {Role::kDown, "transformer.h.{}.mlp.dense_4h_to_h"},
                {Role::kFinalNorm, "transformer.ln_f"},
                {Role::kHead, "lm_head"}},
    .keys = {.hidden_size = {"n_embed", "hidden_size"},
             .intermediate_size = {},
             .layers = {"n_layer", "num_hidden_layers"},
             .heads = {"n_head", "num_attention_heads"},
             .kv_heads = {},
             .head_dim = {},
             .max_positions = {"seq_length"},
             .norm_eps = {"layer_norm_epsilon"},
             .activation = {}},
    .rotation = Rotation::kNone,
    .model = {.model_type = "bloom",
              .vocab_size = 250880,
              .hidden_size = 64,
              .layers = 2,
              .heads = 8,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .embedding_norm = true,
              .qkv_layout = QkvLayout::kGrouped,
              .gated_mlp = false,
              .activation = Activation::kGeluTanh,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .alibi = Alibi::kBloom,
              .tied_head = true,
              .eos_ids = {2},
              .bos_id = 1},
    .configure = configure_bloom,
};

}  // namespace qtool
