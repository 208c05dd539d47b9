// Bytes -> changes of a checkpoint. Each change takes a few bytes: what, where, how. So what libFuzzer learns
// of one change it can put together with others.
#include <array>
#include <limits>

#include "core/dtype.h"
#include "test/fuzz/mini_checkpoint.h"

namespace qtool::test {
namespace {

// Takes numbers and texts off the front; zeros behind the end.
class Choices {
 public:
  explicit Choices(std::string_view bytes) : bytes_(bytes) {}
  bool left() const { return !bytes_.empty(); }
  std::size_t byte() {
    if (bytes_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return byte;
  }
  std::size_t below(std::size_t end) {  // end > 0
    const std::size_t number = end > 256 ? byte() * 256 + byte() : byte();
    return number % end;
  }
  template <typename List>
  auto& of(List& list) {  // not empty
    return list[below(std::size(list))];
  }
  std::string text(std::size_t length) {
    const std::string text(bytes_.substr(0, length));
    bytes_.remove_prefix(text.size());
    return text;
  }
  // A number at the border of something, or near `now`.
  std::int64_t number(std::int64_t now) {
    constexpr std::array<std::int64_t, 12> kBorders{
        0, 1, -1, 2, 127, 255, 65536, (1LL << 31) - 1, 1LL << 31, 1LL << 32, 1LL << 62, INT64_MAX};
    const std::size_t kind = byte();
    if (kind < 64) return kBorders[kind % kBorders.size()];
    if (kind < 128) return static_cast<std::int64_t>(kind - 64);
    const auto low = static_cast<std::uint64_t>(now);  // wraps where it must
    if (kind < 192) return static_cast<std::int64_t>(low + (kind - 160));
    return static_cast<std::int64_t>(kind < 224 ? low * (kind - 190) : low / (kind - 222));
  }

 private:
  std::string_view bytes_;
};

class Mutation {
 public:
  Mutation(MiniCheckpoint& checkpoint, Choices& choices) : mini_(checkpoint), choices_(choices) {}

  MiniChange all() {
    while (choices_.left()) (this->*choices_.of(kChanges))();
    return change_;
  }

 private:
  using Change = void (Mutation::*)();
  static const Change kChanges[25];

  // --- JSON: config.json and the smaller files

  Json value(const Json& now) {
    constexpr std::array kWords{"",     "auto", "float16",  "linear", "dynamic", "yarn",  "llama3",
                                "gelu", "silu", "\xc3\xa9", "a.b",    "nf4",     "uint8", "LlamaForCausalLM"};
    constexpr std::array kNumbers{0.0,  -0.0,  1.0,    -1.0,   0.5,     1e-5,   1e-45,
                                  1e30, 1e300, -1e300, 1e-310, 65504.0, 3.5e38, 2.5};
    switch (choices_.below(10)) {
      case 0:
        return choices_.of(kWords);
      case 1:
        return choices_.of(kNumbers);
      case 2:
        return nullptr;
      case 3:
        return choices_.byte() % 2 == 1;
      case 4:
        return Json::array();
      case 5:
        return Json::object();
      case 6:
        return Json::array({now});
      case 7:
        return Json::array({now, now, value_of_number(now)});
      case 8:
        return choices_.text(choices_.byte() % 32);
      default:
        return value_of_number(now);
    }
  }
  Json value_of_number(const Json& now) {
    return choices_.number(now.is_number_integer() ? now.get<std::int64_t>() : 0);
  }

  // An object in `root` or inside of it: each byte over 127 leads one level down.
  Json& object_in(Json& root) {
    Json* at = &root;
    while (choices_.byte() > 127) {
      std::vector<Json*> inner;
      for (Json& child : *at)
        if (child.is_object() && !child.empty()) inner.push_back(&child);
      if (inner.empty()) break;
      at = choices_.of(inner);
    }
    return *at;
  }

  void set_key(Json& root) {
    Json& object = object_in(root);
    if (!object.is_object() || object.empty()) return;
    auto at = object.begin();
    std::advance(at, choices_.below(object.size()));
    *at = value(*at);
  }
  void erase_key(Json& root) {
    Json& object = object_in(root);
    if (!object.is_object() || object.empty()) return;
    auto at = object.begin();
    std::advance(at, choices_.below(object.size()));
    object.erase(at);
  }
  // What another family calls something, with its value or another.
  void borrow_key() {
    const Json& other = mini_sample(choices_.byte(), 0).config;
    auto at = other.begin();
    std::advance(at, choices_.below(other.size()));
    mini_.config[at.key()] = choices_.byte() % 2 ? value(*at) : *at;
  }
  void set_config() { set_key(mini_.config); }
  void erase_config() { erase_key(mini_.config); }

  std::string& any_file() {
    auto at = mini_.files.begin();
    std::advance(at, choices_.below(mini_.files.size()));
    return at->second;
  }
  void change_json_file() {
    std::string& content = any_file();
    Json json = Json::parse(content, nullptr, false);
    if (!json.is_object()) return;
    choices_.byte() % 4 ? set_key(json) : erase_key(json);
    content = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  void overwrite_file() {
    std::string& content = any_file();
    const std::string text = choices_.text(choices_.byte() % 16);
    if (content.size() >= text.size())
      content.replace(choices_.below(content.size() - text.size() + 1), text.size(), text);
  }
  void name_file() {
    constexpr std::array kNames{"tokenizer.model",
                                "vocab.json",
                                "merges.txt",
                                "qwen.tiktoken",
                                "adapter_config.json",
                                "pytorch_model.bin",
                                "model.gguf",
                                "added_tokens.json",
                                "special_tokens_map.json",
                                "model-extra.safetensors",
                                "chat_template.json"};
    mini_.files[choices_.of(kNames)] = choices_.byte() % 2 ? any_file() : choices_.text(choices_.byte());
  }
  void drop_file() {
    if (mini_.files.size() > 1)
      mini_.files.erase(
          std::next(mini_.files.begin(), static_cast<std::ptrdiff_t>(choices_.below(mini_.files.size()))));
  }

  // --- tensors

  MiniTensor* any_tensor() {
    if (mini_.shards.empty()) return nullptr;
    MiniShard& shard = choices_.of(mini_.shards);
    return shard.tensors.empty() ? nullptr : &choices_.of(shard.tensors);
  }
  void rename(MiniTensor& tensor, const std::string& name) {
    for (auto& [mapped, file] : mini_.weight_map)
      if (mapped == tensor.name) mapped = name;
    tensor.name = name;
  }

  void set_dtype() {
    MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    const std::size_t row = choices_.below(kDTypes.size() + 1);
    tensor->dtype = row < kDTypes.size() ? std::string(kDTypes[row].name) : choices_.text(4) + "F8_E4M3";
    if (choices_.byte() % 2) fit(*tensor);
    change_.values_changed = true;
  }
  void set_extent() {
    MiniTensor* tensor = any_tensor();
    if (!tensor || tensor->shape.empty()) return;
    std::int64_t& extent = choices_.of(tensor->shape);
    extent = choices_.number(extent);
    if (choices_.byte() % 2) fit(*tensor);
  }
  void set_rank() {
    MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    if (choices_.byte() % 2 && !tensor->shape.empty())
      tensor->shape.pop_back();
    else
      tensor->shape.insert(tensor->shape.begin(), choices_.number(1));
    if (choices_.byte() % 2) fit(*tensor);
  }
  // Bytes as many as its shape and type need, if that is a reasonable number: a valid file of another shape.
  void fit(MiniTensor& tensor) {
    constexpr std::int64_t kMost = 1 << 18;
    std::int64_t bytes = 1;
    for (const DTypeInfo& row : kDTypes)
      if (row.name == tensor.dtype) bytes = row.bytes;
    for (const std::int64_t extent : tensor.shape)
      if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes) || bytes > kMost) return;
    tensor.bytes.resize(static_cast<std::size_t>(bytes), '\x3c');
  }
  void shift_offsets() {
    MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    std::int64_t& shift = choices_.byte() % 2 ? tensor->begin_shift : tensor->end_shift;
    shift = choices_.number(0) >> 1;  // sums stay in range
  }
  void rename_tensor() {
    constexpr std::array kSuffixes{".absmax",
                                   ".quant_map",
                                   ".nested_absmax",
                                   ".SCB",
                                   ".weight_format",
                                   ".bias",
                                   "_format",
                                   ".quant_state.bitsandbytes__nf4",
                                   ".quant_state.bitsandbytes__fp4",
                                   "\n",
                                   "\xff",
                                   ".weight"};
    MiniTensor *tensor = any_tensor(), *other = any_tensor();
    if (!tensor || !other) return;
    std::string name = tensor->name;
    switch (choices_.below(4)) {
      case 0:
        name = other->name;
        break;
      case 1:
        name += choices_.of(kSuffixes);
        break;
      case 2:
        name = name.substr(choices_.below(name.size() + 1));
        break;
      default:
        for (char& c : name)
          if (c >= '0' && c <= '9') c = static_cast<char>('0' + choices_.byte() % 10);
    }
    rename(*tensor, name);
  }
  void exchange_tensors() {
    MiniTensor *a = any_tensor(), *b = any_tensor();
    if (a && b) std::swap(*a, *b);
  }
  void erase_tensor() {
    MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    const bool everywhere = choices_.byte() % 2;
    const std::string name = tensor->name;
    for (MiniShard& shard : mini_.shards)
      std::erase_if(shard.tensors, [&](const MiniTensor& one) { return one.name == name; });
    if (everywhere) std::erase_if(mini_.weight_map, [&](const auto& row) { return row.first == name; });
  }
  void copy_tensor() {
    const MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    MiniTensor copy = *tensor;
    if (choices_.byte() % 2) copy.name += ".copy";
    choices_.of(mini_.shards).tensors.push_back(std::move(copy));
  }
  void set_bytes() {
    MiniTensor* tensor = any_tensor();
    if (!tensor) return;
    const std::string bytes = choices_.text(1 + choices_.byte() % 8);
    if (tensor->bytes.size() < bytes.size()) return;
    tensor->bytes.replace(choices_.below(tensor->bytes.size() - bytes.size() + 1), bytes.size(), bytes);
    change_.values_changed = true;
  }
  // A quant_state's JSON, key by key.
  void set_quant_state() {
    std::vector<MiniTensor*> states;
    for (MiniShard& shard : mini_.shards)
      for (MiniTensor& tensor : shard.tensors)
        if (tensor.name.find(".quant_state.") != std::string::npos) states.push_back(&tensor);
    if (states.empty()) return;
    MiniTensor& tensor = *choices_.of(states);
    Json json = Json::parse(tensor.bytes, nullptr, false);
    if (!json.is_object()) return;
    set_key(json);
    tensor.bytes = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    tensor.shape = {std::ssize(tensor.bytes)};
    change_.values_changed = true;
  }

  // --- files of weights and their index

  void set_file_name(std::string& name) {
    constexpr std::array kNames{"../model.safetensors",
                                "/etc/passwd",
                                "model.safetensors",
                                "x.safetensors",
                                "model-00001-of-00002.safetensors",
                                ".safetensors",
                                "a\nb.safetensors",
                                "",
                                "."};
    name = choices_.of(kNames);
  }
  void set_index_row() {
    if (mini_.weight_map.empty()) return;
    auto& [tensor, file] = choices_.of(mini_.weight_map);
    const std::size_t what = choices_.below(3);
    if (what == 0) set_file_name(file);
    if (what == 1) file = choices_.of(mini_.weight_map).second;
    if (what == 2) tensor += ".x";
  }
  void change_index() {
    if (mini_.weight_map.empty()) {
      write_index(mini_);
    } else if (choices_.byte() % 2) {
      mini_.weight_map.clear();
    } else {
      mini_.weight_map.erase(mini_.weight_map.begin() +
                             static_cast<std::ptrdiff_t>(choices_.below(mini_.weight_map.size())));
    }
  }
  void rename_shard() {
    if (!mini_.shards.empty()) set_file_name(choices_.of(mini_.shards).name);
  }
  void shift_header() {
    if (!mini_.shards.empty()) choices_.of(mini_.shards).header_shift = choices_.number(0);
  }
  void cut_shard() {
    if (!mini_.shards.empty())
      choices_.of(mini_.shards).cut = static_cast<std::int64_t>(choices_.below(4096)) - 64;
  }

  MiniCheckpoint& mini_;
  Choices& choices_;
  MiniChange change_;
};

// What changes a checkpoint that may still be valid is listed more often.
const Mutation::Change Mutation::kChanges[] = {
    &Mutation::set_config,       &Mutation::set_config,      &Mutation::set_config,
    &Mutation::erase_config,     &Mutation::borrow_key,      &Mutation::borrow_key,
    &Mutation::change_json_file, &Mutation::overwrite_file,  &Mutation::name_file,
    &Mutation::drop_file,        &Mutation::set_dtype,       &Mutation::set_extent,
    &Mutation::set_rank,         &Mutation::shift_offsets,   &Mutation::rename_tensor,
    &Mutation::exchange_tensors, &Mutation::erase_tensor,    &Mutation::copy_tensor,
    &Mutation::set_bytes,        &Mutation::set_quant_state, &Mutation::set_index_row,
    &Mutation::change_index,     &Mutation::rename_shard,    &Mutation::shift_header,
    &Mutation::cut_shard,
};

}  // namespace

MiniChange mutate(MiniCheckpoint& checkpoint, std::string_view bytes) {
  Choices choices(bytes);
  return Mutation(checkpoint, choices).all();
}

}  // namespace qtool::test
