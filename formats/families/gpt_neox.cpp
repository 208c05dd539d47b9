// GPT-NeoX, Pythia, Dolly.
#include "formats/families/families.h"

namespace qtool {
namespace {

void configure_gpt_neox(const ConfigReader& config, ModelSpec& spec) {
  spec.parallel = config.flag({"use_parallel_residual"}, true);
}

}  // namespace

const Architecture kGptNeoX{
    .class_names = {"GPTNeoXForCausalLM"},
    .base_prefix = "gpt_neox.",
    .modules = {{Role::kEmbedding, "gpt_neox.embed_in"},
                {Role::kInputNorm, "gpt_neox.layers.{}.input_layernorm"},
                {Role::kQkv, "gpt_neox.layers.{}.attention.query_key_value"},
                {Role::kAttentionOutput, "gpt_neox.layers.{}.attention.dense"},
                {Role::kMlpNorm, "gpt_neox.layers.{}.post_attention_layernorm"},
                {Role::kUp, "gpt_neox.layers.{}.mlp.dense_h_to_4h"},
                {Role::kDown, "gpt_neox.layers.{}.mlp.dense_4h_to_h"},
                {Role::kFinalNorm, "gpt_neox.final_layer_norm"},
                {Role::kHead, "embed_out"}},
    .keys = {.kv_heads = {},
             .head_dim = {},
             .norm_eps = {"layer_norm_eps"},
             .qkv_bias = {"attention_bias"},
             .attention_output_bias = {"attention_bias"}},
    .rope = {.theta = {"rotary_emb_base"},
             .fraction = {"rotary_pct"},
             .default_fraction = 0.25,
             .partial = true},
    .model = {.model_type = "gpt_neox",
              .vocab_size = 50432,
              .hidden_size = 6144,
              .intermediate_size = 24576,
              .layers = 44,
              .heads = 64,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .qkv_layout = QkvLayout::kGrouped,
              .gated_mlp = false,
              .activation = Activation::kGeluErf,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .eos_ids = {2},
              .bos_id = 0},
    .configure = configure_gpt_neox,
};

}  // namespace qtool
