// One architecture as a row of data (formats/families). A family of known traits needs no code: a row says
// what its tensors are called, what config.json calls its numbers, and what an absent key means.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/model/roles.h"
#include "core/model/spec.h"
#include "formats/config_reader.h"
#include "formats/rope_config.h"

namespace qtool {

// Where a role lives in the files that transformers writes: "model.layers.{}.mlp.up_proj", {} standing for
// the layer's number, a second {} for the expert's or head's.
struct ModuleName {
  Role role;
  std::string_view name;
  ModuleKind kind = is_linear(role) ? ModuleKind::kLinear : ModuleKind::kOther;
};

// config.json's names. The defaults are those of Llama and of most that came after it; an empty key cannot be
// set.
struct ConfigKeys {
  ConfigKey hidden_size = {"hidden_size"};
  ConfigKey intermediate_size = {"intermediate_size"};
  ConfigKey layers = {"num_hidden_layers"};
  ConfigKey heads = {"num_attention_heads"};
  ConfigKey kv_heads = {"num_key_value_heads"};
  ConfigKey head_dim = {"head_dim"};
  ConfigKey max_positions = {"max_position_embeddings"};
  ConfigKey norm_eps = {"rms_norm_eps"};
  ConfigKey activation = {"hidden_act"};
  // Switches of biases; without a key the row's model says whether they exist.
  ConfigKey qkv_bias = {};
  ConfigKey attention_output_bias = {};
  ConfigKey mlp_bias = {};
};

// Where a family's rotary embedding comes from.
enum class Rotation : std::uint8_t {
  kConfigured,  // config.json's rope_parameters and their kin, read as RopeKeys says
  kOwn,         // `configure` sets it
  kNone,        // no layer rotates
};

class Architecture {
 public:
  // config.json's `architectures`; the first is today's language model. transformers' base class without a
  // head ("GPT2Model") is one of them where the head is tied.
  std::vector<std::string_view> class_names;
  std::string_view base_prefix;  // "model.": of the names of all but the head; older files may lack it
  std::vector<ModuleName>
      modules;  // every role the family may have; the first name of a role is its usual one
  ConfigKeys keys = {};
  Rotation rotation = Rotation::kConfigured;
  RopeKeys rope = {};

  // The model of a config.json without any key: the defaults of transformers' configuration class, and the
  // traits that no key switches. kv_heads 0 is `heads`, head_dim 0 is hidden_size / heads, intermediate_size
  // 0 is 4 hidden_size. model_type is config.json's.
  ModelSpec model;

  // Reads the family's own keys. Runs last, over a spec that is complete but for them.
  void (*configure)(const ConfigReader& config, ModelSpec& spec) = nullptr;

  // Bytes of the buffers that transformers' model has besides parameters and rotary frequencies.
  std::int64_t (*more_buffers)(const ModelSpec& spec) = nullptr;
};

}  // namespace qtool
