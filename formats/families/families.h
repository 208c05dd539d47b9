// The rows of all families that qtool knows, a vendor's or a lineage's in a file of its own. Defaults and
// names are those of transformers 5 (configuration_*.py and modeling_*.py of each model_type).
#pragma once

#include <span>
#include <vector>

#include "formats/architecture_row.h"

namespace qtool {

extern const Architecture kBloom;
extern const Architecture kCohere;
extern const Architecture kCohere2;
extern const Architecture kFalcon;
extern const Architecture kGemma;
extern const Architecture kGemma2;
extern const Architecture kGemma3;
extern const Architecture kGlm;
extern const Architecture kGlm4;
extern const Architecture kGpt2;
extern const Architecture kGptBigCode;
extern const Architecture kGptJ;
extern const Architecture kGptNeo;
extern const Architecture kGptNeoX;
extern const Architecture kGranite;
extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kMixtral;
extern const Architecture kMpt;
extern const Architecture kNemotron;
extern const Architecture kOlmo;
extern const Architecture kOlmo2;
extern const Architecture kOlmo3;
extern const Architecture kOpt;
extern const Architecture kPhi;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;
extern const Architecture kSmolLm3;
extern const Architecture kStableLm;
extern const Architecture kStarcoder2;

// All of them, in the order in which messages list them.
std::span<const Architecture* const> families();

// The modules that Llama and most after it have, under Llama's names, and `more` behind them.
std::vector<ModuleName> llama_modules(std::initializer_list<ModuleName> more = {});

// Those without the three of the MLP, or without the two norms, for families that name theirs otherwise.
std::vector<ModuleName> llama_modules_without(std::initializer_list<Role> roles,
                                              std::initializer_list<ModuleName> more);

}  // namespace qtool
