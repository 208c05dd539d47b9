#include "test/fuzz/mini_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "core/quant/reference_quantizer.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"
#include "formats/model_files.h"
#include "formats/quantize_checkpoint.h"
#include "formats/weights_io.h"

namespace qtool::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";
const std::string kData = QTOOL_TEST_DATA;

std::vector<std::string> folders_in(const std::string& parent, const char* that_hold) {
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(parent))
    if (that_hold[0] == '\0' || fs::exists(entry.path() / that_hold))
      folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

MiniShard shard_of(const InputFile& file) {
  MiniShard shard;
  shard.name = fs::path(file.path()).filename().string();
  for (const TensorInfo& tensor : read_safetensors_header(file).tensors) {
    MiniTensor mini{tensor.name, std::string(info(tensor.dtype).name), tensor.shape, {}, 0, 0};
    mini.bytes.resize(static_cast<std::size_t>(tensor.bytes));
    file.read_at(tensor.begin, std::as_writable_bytes(std::span(mini.bytes)));
    shard.tensors.push_back(std::move(mini));
  }
  return shard;
}

MiniCheckpoint read_mini(const std::string& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  MiniCheckpoint mini;
  mini.config = checkpoint.config();
  for (const InputFile& file : checkpoint.files()) mini.shards.push_back(shard_of(file));
  const std::string generation = folder + "/generation_config.json";
  if (exists(generation)) mini.files["generation_config.json"] = read_file(generation);
  return mini;
}

QuantSpec spec_of(int scheme) {
  QuantSpec spec;
  if (scheme == 0) return spec;
  spec.method = scheme == 4 ? QuantMethod::kInt8 : QuantMethod::kBlock4;
  spec.code = scheme == 3 ? Code4::kFp4 : Code4::kNf4;
  spec.nested = scheme == 2;
  return spec;
}

const std::vector<std::string>& families() {
  static const std::vector<std::string> folders = folders_in(kData + "/families", "model.safetensors");
  return folders;
}

MiniCheckpoint make_sample(std::size_t family, int scheme) {
  static const std::vector<std::string> tokenizers = folders_in(kData + "/tokenizers", "");
  const std::string& source = families().at(family);
  MiniCheckpoint mini = read_mini(source);
  if (scheme > 0) {
    const Checkpoint checkpoint = Checkpoint::open(source);
    const ModelSpec model = model_spec_of(checkpoint);
    PlanOptions options;
    options.quant = spec_of(scheme);
    options.rest_dtype = model.dtype;
    options.tied_head = model.tied_head;
    options.head_module = module_name(architecture_of(checkpoint.config()), Role::kHead, -1);
    const Plan plan = make_plan(source_tensors(checkpoint), options);
    const FuzzFolder parent;
    AtomicFolder output(parent / "sample", false);
    quantize_checkpoint(checkpoint, plan, ReferenceQuantizer(), output, StreamOptions());
    output.write("config.json", to_python_json(output_config(checkpoint.config(), plan)));
    copy_model_files(source, output);
    output.commit();
    mini = read_mini(output.target());
  }
  const std::string& tokenizer = tokenizers.at(family % tokenizers.size());
  if (fs::is_directory(tokenizer))
    for (const auto& file : fs::directory_iterator(tokenizer))
      if (file.path().filename() != "config.json")
        mini.files[file.path().filename().string()] = read_file(file.path().string());
  mini.files.emplace("tokenizer_config.json", "{}");
  mini.files["chat_template.jinja"] = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";
  return mini;
}

// A file of these tensors as they are said to be; offsets are those at which the bytes lie, plus the shifts.
std::string shard_bytes(const MiniShard& shard) {
  std::string header = R"({"__metadata__":{"format":"pt"})", data;
  for (const MiniTensor& tensor : shard.tensors) {
    header += "," + Json(tensor.name).dump(-1, ' ', false, Json::error_handler_t::replace) +
              R"(:{"dtype":")" + tensor.dtype + R"(","shape":)" + Json(tensor.shape).dump();
    header += R"(,"data_offsets":[)" + std::to_string(std::ssize(data) + tensor.begin_shift) + ",";
    data += tensor.bytes;
    header += std::to_string(std::ssize(data) + tensor.end_shift) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size() + static_cast<std::uint64_t>(shard.header_shift);
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  file += header + data;
  file.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, std::ssize(file) - shard.cut)));
  return file;
}

// Names that mutations made may lead elsewhere or be none at all; only the reader has to cope with those.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() < 200 && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name[0] != '.';
}

}  // namespace

const MiniCheckpoint& mini_sample(std::size_t family, int scheme) {
  static std::map<std::pair<std::size_t, int>, MiniCheckpoint> kept;
  const auto key = std::pair(family % families().size(), scheme);
  if (const auto found = kept.find(key); found != kept.end()) return found->second;
  return kept.emplace(key, make_sample(key.first, scheme)).first->second;
}

void shard(MiniCheckpoint& checkpoint) {
  std::vector<MiniTensor> all = std::move(checkpoint.shards.at(0).tensors);
  const auto middle = std::make_move_iterator(all.begin() + std::ssize(all) / 2);
  const auto begin = std::make_move_iterator(all.begin()), end = std::make_move_iterator(all.end());
  checkpoint.shards.clear();
  checkpoint.shards.push_back({"model-00001-of-00002.safetensors", {begin, middle}});
  checkpoint.shards.push_back({"model-00002-of-00002.safetensors", {middle, end}});
  write_index(checkpoint);
}

void write_index(MiniCheckpoint& checkpoint) {
  for (const MiniShard& shard : checkpoint.shards)
    for (const MiniTensor& tensor : shard.tensors)
      checkpoint.weight_map.emplace_back(tensor.name, shard.name);
}

void write_mini(const MiniCheckpoint& checkpoint, const FuzzFolder& folder) {
  for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove_all(entry.path());
  folder.write("config.json", checkpoint.config.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (const MiniShard& shard : checkpoint.shards)
    if (is_plain_name(shard.name)) folder.write(shard.name, shard_bytes(shard));
  if (!checkpoint.weight_map.empty()) {
    std::string index;
    for (const auto& [tensor, file] : checkpoint.weight_map)
      index += (index.empty() ? "" : ",") +
               Json(tensor).dump(-1, ' ', false, Json::error_handler_t::replace) + ":" +
               Json(file).dump(-1, ' ', false, Json::error_handler_t::replace);
    folder.write(kIndex, R"({"metadata":{"total_size":1},"weight_map":{)" + index + "}}");
  }
  for (const auto& [name, content] : checkpoint.files)
    if (is_plain_name(name)) folder.write(name, content);
}

}  // namespace qtool::test
