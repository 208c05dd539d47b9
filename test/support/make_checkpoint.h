// Small random Llama checkpoints for tests, written by code of their own: nothing of formats/ is used, so a
// mistake there cannot hide here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

#include "core/dtype.h"
#include "core/float16.h"
#include "core/tensor.h"

namespace qtool::test {

// A folder that disappears with its scope.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "qtool-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed: " + pattern);
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void write_text(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// One tensor with its bytes.
struct RawTensor {
  std::string name;
  std::string dtype;  // "BF16"
  Shape shape;
  std::string bytes;
};

// A safetensors file of tensors in the order given. Names are plain ASCII.
inline void write_safetensors(const std::string& path, const std::vector<RawTensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const RawTensor& tensor : tensors) {
    header += ",\"" + tensor.name + "\":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i)
      header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data += tensor.bytes;
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i)
    length[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
  write_text(path, length + header + data);
}

// Normal random values of a float type.
inline RawTensor random_tensor(std::string name, DType dtype, Shape shape, float scale, float mean,
                               std::mt19937& random) {
  std::normal_distribution<float> normal(mean, scale);
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(count_of(shape) * size_of(dtype)));
  for (std::int64_t i = 0; i < count_of(shape); ++i) {
    const float value = normal(random);
    const std::uint32_t bits = dtype == DType::kF32    ? std::bit_cast<std::uint32_t>(value)
                               : dtype == DType::kBF16 ? bf16_from_float(value)
                                                       : f16_from_float(value);
    for (int byte = 0; byte < size_of(dtype); ++byte) bytes += static_cast<char>(bits >> (8 * byte));
  }
  return {std::move(name), std::string(info(dtype).name), std::move(shape), std::move(bytes)};
}

// What to write. Sizes are deliberately small and not all multiples of 64.
struct TinyLlama {
  enum class Tied {
    kNo,
    kEmbedding,
    kHead,
    kBoth
  };  // untied, or: under which name(s) the one matrix is stored

  int vocab = 96;
  int hidden = 64;
  int intermediate = 160;
  int layers = 2;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 16;
  int max_positions = 64;
  DType dtype = DType::kBF16;  // F32, F16 or BF16
  Tied tied = Tied::kNo;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool version4 = false;         // transformers 4 spellings: torch_dtype, rope_theta, rope_scaling
  std::string rope = "null";     // JSON object of rope parameters without the theta, or null
  std::string more_config = {};  // further config.json members: "\"a\": 1, "
  int shards = 1;                // above 1: model-0000i-of-0000n.safetensors and an index
  float scale = 0.05f;           // standard deviation of the weights
  unsigned seed = 1;
};

inline std::vector<RawTensor> tensors_of(const TinyLlama& model) {
  std::mt19937 random(model.seed);
  std::vector<RawTensor> out;
  const auto add = [&](const std::string& name, Shape shape, float scale, float mean = 0.0f) {
    out.push_back(random_tensor(name, model.dtype, std::move(shape), scale, mean, random));
  };
  const auto linear = [&](const std::string& module, int rows, int cols, bool bias) {
    add(module + ".weight", {rows, cols}, model.scale);
    if (bias) add(module + ".bias", {rows}, model.scale);
  };
  using Tied = TinyLlama::Tied;
  if (model.tied != Tied::kHead) add("model.embed_tokens.weight", {model.vocab, model.hidden}, 0.5f);
  for (int layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const int q = model.heads * model.head_dim;
    const int kv = model.kv_heads * model.head_dim;
    add(prefix + "input_layernorm.weight", {model.hidden}, 0.1f, 1.0f);
    linear(prefix + "self_attn.q_proj", q, model.hidden, model.attention_bias);
    linear(prefix + "self_attn.k_proj", kv, model.hidden, model.attention_bias);
    linear(prefix + "self_attn.v_proj", kv, model.hidden, model.attention_bias);
    linear(prefix + "self_attn.o_proj", model.hidden, q, model.attention_bias);
    add(prefix + "post_attention_layernorm.weight", {model.hidden}, 0.1f, 1.0f);
    linear(prefix + "mlp.gate_proj", model.intermediate, model.hidden, model.mlp_bias);
    linear(prefix + "mlp.up_proj", model.intermediate, model.hidden, model.mlp_bias);
    linear(prefix + "mlp.down_proj", model.hidden, model.intermediate, model.mlp_bias);
  }
  add("model.norm.weight", {model.hidden}, 0.1f, 1.0f);
  if (model.tied == Tied::kBoth) {
    out.push_back(out.front());
    out.back().name = "lm_head.weight";
  } else if (model.tied != Tied::kEmbedding) {
    add("lm_head.weight", {model.vocab, model.hidden}, model.tied == Tied::kHead ? 0.5f : model.scale);
  }
  return out;
}

inline std::string config_of(const TinyLlama& model) {
  const auto number = [](int value) { return std::to_string(value); };
  const auto boolean = [](bool value) { return value ? "true" : "false"; };
  std::string rope;
  if (model.version4) {
    rope = "\"rope_theta\": 10000.0, \"rope_scaling\": " + model.rope;
  } else if (model.rope == "null") {
    rope = R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})";
  } else {
    rope = "\"rope_parameters\": {\"rope_theta\": 10000.0, " + model.rope.substr(model.rope.find('{') + 1);
  }
  return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", )" +
         model.more_config + "\"vocab_size\": " + number(model.vocab) +
         ", \"hidden_size\": " + number(model.hidden) +
         ", \"intermediate_size\": " + number(model.intermediate) +
         ", \"num_hidden_layers\": " + number(model.layers) +
         ", \"num_attention_heads\": " + number(model.heads) +
         ", \"num_key_value_heads\": " + number(model.kv_heads) +
         ", \"head_dim\": " + number(model.head_dim) +
         ", \"max_position_embeddings\": " + number(model.max_positions) +
         ", \"rms_norm_eps\": 1e-05, \"attention_bias\": " + boolean(model.attention_bias) +
         ", \"mlp_bias\": " + boolean(model.mlp_bias) +
         ", \"tie_word_embeddings\": " + boolean(model.tied != TinyLlama::Tied::kNo) +
         ", \"bos_token_id\": 1, \"eos_token_id\": 2, \"" + (model.version4 ? "torch_dtype" : "dtype") +
         "\": \"" + std::string(info(model.dtype).torch_name) + "\", " + rope + "}\n";
}

// Writes `tensors` as `shards` files, in runs of equal count, with an index if there are several.
inline void write_shards(const std::string& folder, const std::vector<RawTensor>& tensors, int shards) {
  if (shards <= 1) return write_safetensors(folder + "/model.safetensors", tensors);
  const auto padded = [](int number) {
    const std::string digits = std::to_string(number);
    return std::string(5 - digits.size(), '0') + digits;
  };
  std::string map;
  std::size_t total = 0;
  const std::size_t per_shard =
      (tensors.size() + static_cast<std::size_t>(shards) - 1) / static_cast<std::size_t>(shards);
  for (int shard = 0; shard < shards; ++shard) {
    const std::string name = "model-" + padded(shard + 1) + "-of-" + padded(shards) + ".safetensors";
    const std::size_t begin = std::min(static_cast<std::size_t>(shard) * per_shard, tensors.size());
    const std::size_t end = std::min(begin + per_shard, tensors.size());
    const std::vector<RawTensor> part(tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                      tensors.begin() + static_cast<std::ptrdiff_t>(end));
    write_safetensors(folder + "/" + name, part);
    for (const RawTensor& tensor : part) {
      map += (map.empty() ? "\"" : ", \"") + tensor.name + "\": \"" + name + "\"";
      total += tensor.bytes.size();
    }
  }
  write_text(
      folder + "/model.safetensors.index.json",
      "{\"metadata\": {\"total_size\": " + std::to_string(total) + "}, \"weight_map\": {" + map + "}}\n");
}

// Writes config.json and the weights into `folder`, which is created if need be. Returns `folder`.
inline std::string make_checkpoint(const TinyLlama& model, const std::string& folder) {
  std::filesystem::create_directories(folder);
  write_text(folder + "/config.json", config_of(model));
  write_shards(folder, tensors_of(model), model.shards);
  return folder;
}

}  // namespace qtool::test
