// Phi-1 to Phi-2 (parallel blocks behind one norm, biases everywhere) and Phi-3 to Phi-4 (Llama with fused
// projections).
#include "formats/families/families.h"
#include "formats/families/layer_patterns.h"

namespace qtool {
namespace {

void configure_phi(const ConfigReader& config, ModelSpec& spec) {
  if (!config.flag({"qk_layernorm"}, false)) return;
  spec.qk_norm = QkNorm::kHead;
  spec.qk_norm_kind = NormKind::kLayer;
  spec.qk_norm_bias = true;
}

void configure_phi3(const ConfigReader& config, ModelSpec& spec) {
  slide_everywhere(spec, window_of(config, 0));
}

}  // namespace

const Architecture kPhi{
    .class_names = {"PhiForCausalLM"},
    .base_prefix = "model.",
    .modules = {{Role::kEmbedding, "model.embed_tokens"},
                {Role::kInputNorm, "model.layers.{}.input_layernorm"},
                {Role::kQuery, "model.layers.{}.self_attn.q_proj"},
                {Role::kKey, "model.layers.{}.self_attn.k_proj"},
                {Role::kValue, "model.layers.{}.self_attn.v_proj"},
                {Role::kQueryNorm, "model.layers.{}.self_attn.q_layernorm"},
                {Role::kKeyNorm, "model.layers.{}.self_attn.k_layernorm"},
                {Role::kAttentionOutput, "model.layers.{}.self_attn.dense"},
                {Role::kUp, "model.layers.{}.mlp.fc1"},
                {Role::kDown, "model.layers.{}.mlp.fc2"},
                {Role::kFinalNorm, "model.final_layernorm"},
                {Role::kHead, "lm_head"}},
    .keys = {.norm_eps = {"layer_norm_eps"}},
    .rope = {.default_fraction = 0.5, .partial = true},
    .model = {.model_type = "phi",
              .vocab_size = 51200,
              .hidden_size = 2048,
              .intermediate_size = 8192,
              .layers = 24,
              .heads = 32,
              .max_positions = 2048,
              .norm = NormKind::kLayer,
              .norm_eps = 1e-5,
              .norm_bias = true,
              .gated_mlp = false,
              .parallel = true,
              .one_norm = true,
              .activation = Activation::kGeluTanh,
              .qkv_bias = true,
              .attention_output_bias = true,
              .mlp_bias = true,
              .head_bias = true,
              .eos_ids = {2},
              .bos_id = 1},
    .configure = configure_phi,
};

const Architecture kPhi3{
    .class_names = {"Phi3ForCausalLM"},
    .base_prefix = "model.",
    .modules = llama_modules_without({Role::kQuery, Role::kKey, Role::kValue, Role::kGate, Role::kUp},
                                     {{Role::kQkv, "model.layers.{}.self_attn.qkv_proj"},
                                      {Role::kGateUp, "model.layers.{}.mlp.gate_up_proj"}}),
    .rope = {.partial = true, .only_longrope = true, .original_positions = 4096},
    .model = {.model_type = "phi3",
              .vocab_size = 32064,
              .hidden_size = 3072,
              .intermediate_size = 8192,
              .layers = 32,
              .heads = 32,
              .max_positions = 4096,
              .norm_eps = 1e-5,
              .qkv_layout = QkvLayout::kBlocks,
              .fused_gate_up = true,
              .eos_ids = {32000},
              .bos_id = 1},
    .configure = configure_phi3,
};

}  // namespace qtool
