// OPT and Galactica. The 350m model keeps the first Transformer's order of norms and an embedding narrower
// than the model.
#include "formats/families/families.h"

namespace qtool {
namespace {

void configure_opt(const ConfigReader& config, ModelSpec& spec) {
  const bool before = config.flag({"do_layer_norm_before"}, true);
  spec.norm_place = before ? NormPlace::kBefore : NormPlace::kOnResidual;
  spec.final_norm = before && !config.flag({"_remove_final_layer_norm"}, false);
  const bool affine = config.flag({"layer_norm_elementwise_affine"}, true);
  spec.norm_weight = affine;
  spec.norm_bias = affine;
  const std::int64_t columns = config.size({"word_embed_proj_dim"}, spec.hidden_size, kMaxExtent);
  if (columns != spec.hidden_size) spec.embedding_size = columns;
}

}  // namespace

const Architecture kOpt{
    .class_names = {"OPTForCausalLM", "OPTModel"},
    .base_prefix = "model.",
    .modules = {{Role::kEmbedding, "model.decoder.embed_tokens"},
                {Role::kPositions, "model.decoder.embed_positions"},
                {Role::kProjectIn, "model.decoder.project_in"},
                {Role::kProjectOut, "model.decoder.project_out"},
                {Role::kInputNorm, "model.decoder.layers.{}.self_attn_layer_norm"},
                {Role::kQuery, "model.decoder.layers.{}.self_attn.q_proj"},
                {Role::kKey, "model.decoder.layers.{}.self_attn.k_proj"},
                {Role::kValue, "model.decoder.layers.{}.self_attn.v_proj"},
                {Role::kAttentionOutput, "model.decoder.layers.{}.self_attn.out_proj"},
                {Role::kMlpNorm, "model.decoder.layers.{}.final_layer_norm"},
                {Role::kUp, "model.decoder.layers.{}.fc1"},
                {Role::kDown, "model.decoder.layers.{}.fc2"},
                {Role::kFinalNorm, "model.decoder.final_layer_norm"},
                {Role::kHead, "lm_head"}},
    .keys = {.intermediate_size = {"ffn_dim"},
             .kv_heads = {},
             .head_dim = {},
             .norm_eps = {},
             .activation = {"activation_function"},
             .qkv_bias = {"enable_bias"},
             .attention_output_bias = {"enable_bias"},
             .mlp_bias = {"enable_bias"}},
    .rotation = Rotation::kNone,
    .model = {.model_type = "opt",
              .vocab_size = 50272,
              .hidden_size = 768,
              .intermediate_size = 3072,
              .layers = 12,
              .heads = 12,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .activation = Activation::kRelu,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .learned_positions = 2,
              .tied_head = true,
              .eos_ids = {2},
              .bos_id = 2},
    .configure = configure_opt,
};

}  // namespace qtool
