// MPT: ALiBi, norms without biases, attention's keys in an object of their own.
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

// transformers computes with a width of 4 d_model and a last slope of 2^-8 whatever expansion_ratio and
// alibi_bias_max say; so does qtool. What would need weights or operations that it leaves out is refused.
void configure_mpt(const ConfigReader& config, ModelSpec& spec) {
  if (!config.flag({"no_bias"}, true)) config.unsupported({"no_bias"}, "transformers' model has no biases");
  if (config.has({"logit_scale"})) config.unsupported({"logit_scale"}, "transformers' model ignores it");
  if (const std::string norm = config.text({"norm_type"}, "layernorm"); norm.find("layernorm") == norm.npos)
    config.unsupported({"norm_type"}, "known are layernorm and low_precision_layernorm");

  const ConfigReader attention = config.object({"attn_config"});
  if (attention.text({"attn_type"}, "multihead_attention") != "multihead_attention")
    attention.unsupported({"attn_type"}, "known is multihead_attention");
  if (!attention.flag({"alibi"}, true))
    attention.unsupported({"alibi"}, "transformers' model has no other positions");
  attention.refuse_if({"qk_ln"}, "transformers' model has no norms of queries and keys");
  attention.refuse_if({"prefix_lm"}, "qtool computes causal attention only");
  if (attention.has({"softmax_scale"})) scale_attention(spec, attention.positive({"softmax_scale"}, 1.0));
  // 0 clips nothing, as in transformers.
  spec.qkv_limit = attention.number({"clip_qkv"}, 0.0) == 0.0 ? 0.0 : attention.positive({"clip_qkv"}, 0.0);
}

}  // namespace

const Architecture kMpt{
    .class_names = {"MptForCausalLM", "MPTForCausalLM", "MptModel"},
    .base_prefix = "transformer.",
    .modules = {{Role::kEmbedding, "transformer.wte"},
                {Role::kInputNorm, "transformer.blocks.{}.norm_1"},
                {Role::kQkv, "transformer.blocks.{}.attn.Wqkv"},
                {Role::kAttentionOutput, "transformer.blocks.{}.attn.out_proj"},
                {Role::kMlpNorm, "transformer.blocks.{}.norm_2"},
                {Role::kUp, "transformer.blocks.{}.ffn.up_proj"},
                {Role::kDown, "transformer.blocks.{}.ffn.down_proj"},
                {Role::kFinalNorm, "transformer.norm_f"},
                {Role::kHead, "lm_head"}},
    .keys = {.hidden_size = {"d_model", "hidden_size"},
             .intermediate_size = {},
             .layers = {"n_layers", "num_hidden_layers"},
             .heads = {"n_heads", "num_attention_heads"},
             .kv_heads = {},
             .head_dim = {},
             .max_positions = {"max_seq_len"},
             .norm_eps = {"layer_norm_epsilon"},
             .activation = {}},
    .rotation = Rotation::kNone,
    .model = {.model_type = "mpt",
              .vocab_size = 50368,
              .hidden_size = 2048,
              .layers = 24,
              .heads = 16,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .qkv_layout = QkvLayout::kBlocks,
              .gated_mlp = false,
              .activation = Activation::kGeluErf,
              .alibi = Alibi::kMpt,
              .tied_head = true},
    .configure = configure_mpt,
};

}  // namespace qtool
