// One architecture as data: everything the forward pass must know, and nothing a file format says otherwise.
//
// A field enters when two families differ by it. formats/architectures fills it from config.json and has
// validated every value against the others (heads divide, sizes positive, factors finite).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace qtool {

enum class Activation : std::uint8_t { kSilu, kGeluErf, kGeluTanh, kRelu };

enum class RopeType : std::uint8_t { kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

// Rotary position embedding. Unused fields keep their defaults.
struct RopeSpec {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  int rotary_dim = 0;   // leading dimensions of a head that rotate; even
  double factor = 1.0;  // linear, dynamic, llama3, yarn; longrope: max / original positions
  std::int64_t original_max_positions = 0;  // context the model was trained with
  double low_freq_factor = 1.0;             // llama3
  double high_freq_factor = 4.0;            // llama3
  double beta_fast = 32.0;                  // yarn
  double beta_slow = 1.0;                   // yarn
  bool truncate = true;                     // yarn: round the correction range to whole dimensions
  std::optional<double> mscale;             // yarn
  std::optional<double> mscale_all_dim;     // yarn
  std::optional<double> attention_factor;   // yarn, longrope: scale of cos and sin, if given
  std::vector<double> short_factor;         // longrope [rotary_dim / 2]
  std::vector<double> long_factor;          // longrope [rotary_dim / 2]
};

struct ModelSpec {
  std::string architecture;     // class name: "LlamaForCausalLM"
  std::string model_type;       // "llama"
  std::int64_t vocab_size = 0;  // rows of the embedding
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;
  std::int64_t max_positions = 0;  // max_position_embeddings
  double norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;  // the output head is the embedding matrix
  RopeSpec rope;
  DType dtype = DType::kBF16;         // of the model: of everything that is not quantized
  std::vector<std::int64_t> eos_ids;  // from generation_config.json, else config.json
  std::optional<std::int64_t> bos_id;
};

}  // namespace qtool
