// One architecture as a row of data. Families that differ from Llama by names, keys and defaults alone need
// no code.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/model/roles.h"

namespace qtool {

// Where a role lives: "model.layers.{}.mlp.up_proj", {} standing for the layer's number.
struct ModuleName {
  Role role;
  std::string_view name;
};

class Architecture {
 public:
  std::string_view model_type;                    // config.json's model_type
  std::span<const std::string_view> class_names;  // config.json's architectures; the first is today's
  std::span<const ModuleName> modules;            // every role the family has
  std::span<const std::string_view> ignored;      // full names of tensors that no model reads, {} as above

  // Keys of the traits that a config.json may switch; empty where the family has no such trait.
  std::string_view qkv_bias_key;
  std::string_view attention_output_bias_key;
  std::string_view mlp_bias_key;
  bool partial_rotary;  // partial_rotary_factor is honoured

  // What an absent key means: the defaults of the family's configuration class.
  bool tied_head;
  double norm_eps;
  double rope_theta;
  std::int64_t max_positions;
  std::optional<std::int64_t> bos_id;
  std::optional<std::int64_t> eos_id;
};

}  // namespace qtool
