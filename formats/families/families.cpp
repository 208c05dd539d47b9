#include "formats/families/families.h"

#include <algorithm>

namespace qtool {

std::span<const Architecture* const> families() {
  static constexpr const Architecture* kFamilies[] = {
      &kLlama,    &kMistral,  &kMixtral, &kQwen2,      &kQwen2Moe,  &kQwen3,  &kQwen3Moe,
      &kPhi,      &kPhi3,     &kGemma,   &kGemma2,     &kGemma3,    &kBloom,  &kGpt2,
      &kGptNeo,   &kGptNeoX,  &kGptJ,    &kGptBigCode, &kOpt,       &kFalcon, &kMpt,
      &kStableLm, &kOlmo,     &kOlmo2,   &kOlmo3,      &kGranite,   &kCohere, &kCohere2,
      &kSmolLm3,  &kNemotron, &kGlm,     &kGlm4,       &kStarcoder2};
  return kFamilies;
}

std::vector<ModuleName> llama_modules(std::initializer_list<ModuleName> more) {
  return llama_modules_without({}, more);
}

std::vector<ModuleName> llama_modules_without(std::initializer_list<Role> roles,
                                              std::initializer_list<ModuleName> more) {
  static constexpr ModuleName kModules[] = {
      {Role::kEmbedding, "model.embed_tokens"},
      {Role::kInputNorm, "model.layers.{}.input_layernorm"},
      {Role::kQuery, "model.layers.{}.self_attn.q_proj"},
      {Role::kKey, "model.layers.{}.self_attn.k_proj"},
      {Role::kValue, "model.layers.{}.self_attn.v_proj"},
      {Role::kAttentionOutput, "model.layers.{}.self_attn.o_proj"},
      {Role::kMlpNorm, "model.layers.{}.post_attention_layernorm"},
      {Role::kGate, "model.layers.{}.mlp.gate_proj"},
      {Role::kUp, "model.layers.{}.mlp.up_proj"},
      {Role::kDown, "model.layers.{}.mlp.down_proj"},
      {Role::kFinalNorm, "model.norm"},
      {Role::kHead, "lm_head"},
  };
  std::vector<ModuleName> modules;
  for (const ModuleName& module : kModules)
    if (std::find(roles.begin(), roles.end(), module.role) == roles.end()) modules.push_back(module);
  modules.insert(modules.end(), more.begin(), more.end());
  return modules;
}

}  // namespace qtool
