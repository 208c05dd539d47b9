#include "formats/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool begins_with(const std::string& text, std::string_view begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

// The names of the folder's files, sorted.
std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  if (error) throw Error(ExitCode::kIo, "cannot list '" + escaped(folder) + "': " + error.message(), folder);
  std::sort(names.begin(), names.end());
  return names;
}

// The folder a model argument means: itself, or the one that holds the named .safetensors file.
std::string folder_of(const std::string& path) {
  if (is_directory(path)) return path;
  if (!exists(path)) throw Error(ExitCode::kNotFound, "'" + escaped(path) + "' does not exist", path);
  if (!ends_with(path, ".safetensors"))
    throw Error(ExitCode::kUsage, "'" + escaped(path) + "' is neither a folder nor a .safetensors file",
                path);
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void check_config_is_there(const std::string& folder, const std::vector<std::string>& names) {
  if (std::binary_search(names.begin(), names.end(), "config.json")) return;
  const bool adapter = std::binary_search(names.begin(), names.end(), "adapter_config.json");
  throw Error(ExitCode::kNotFound,
              "'" + escaped(folder) + "' holds no config.json" +
                  (adapter ? ": it is an adapter; name the model that it adapts" : ": it is no model folder"),
              folder);
}

// Where there is no file of safetensors, say what there is instead.
[[noreturn]] void no_weights(const std::string& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (begins_with(name, "pytorch_model") || ends_with(name, ".bin") || ends_with(name, ".pth"))
      throw Error(ExitCode::kUnsupported,
                  "'" + escaped(folder) + "' holds its weights as '" + escaped(name) +
                      "', a pickle that may run code when it is read; convert it once with transformers: "
                      "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
                  folder);
    if (ends_with(name, ".gguf"))
      throw Error(ExitCode::kUnsupported,
                  "'" + escaped(folder) + "' holds GGUF weights; qtool reads safetensors files", folder);
  }
  throw Error(ExitCode::kNotFound,
              "'" + escaped(folder) + "' holds no weights: neither " + kSingleFile + " nor " + kIndexFile +
                  " nor a single other .safetensors file",
              folder);
}

// The one weight file of a folder without an index. Files that begin with '_' are notes of other tools, and
// consolidated*.safetensors is the same model once more under other names.
std::string single_file(const std::string& folder, const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names)
    if (ends_with(name, ".safetensors") && name[0] != '_' && !begins_with(name, "consolidated"))
      found.push_back(name);
  if (found.empty()) no_weights(folder, names);
  if (found.size() > 1)
    throw Error(ExitCode::kNotFound,
                "'" + escaped(folder) + "' holds " + std::to_string(found.size()) +
                    " .safetensors files but no " + kIndexFile + " that says what belongs to the model",
                folder);
  return found.front();
}

// Tensor name -> shard name, as the index has it.
std::map<std::string, std::string> read_weight_map(const std::string& path) {
  const Json index = read_json_file(path);
  const auto fail = [&](const std::string& message) {
    throw Error(ExitCode::kMalformed, path + ": " + message, path);
  };
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail("has no object 'weight_map'");
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) fail("the file of tensor '" + escaped(tensor) + "' is not a string");
    const auto name = file.get<std::string>();
    // A shard lies beside its index: anything else could lead out of the folder.
    if (!ends_with(name, ".safetensors") || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail("tensor '" + escaped(tensor) + "' is said to lie in '" + escaped(name) +
           "', which is not a plain name of a .safetensors file");
    map[tensor] = name;
  }
  if (map.empty()) fail("'weight_map' is empty");
  return map;
}

}  // namespace

Checkpoint::Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder_of(path);
  const std::string& folder = checkpoint.folder_;
  const std::vector<std::string> names = names_in(folder);
  const auto holds = [&](const char* name) { return std::binary_search(names.begin(), names.end(), name); };
  check_config_is_there(folder, names);
  checkpoint.config_ = std::make_unique<Json>(read_json_file(folder + "/config.json"));
  if (!checkpoint.config_->is_object())
    throw Error(ExitCode::kMalformed, folder + "/config.json: must be an object", folder + "/config.json");

  // transformers' order: the single file wins over an index that an earlier save may have left behind.
  const bool sharded = !holds(kSingleFile) && holds(kIndexFile);
  std::map<std::string, std::string> map;
  std::vector<std::string> shards;
  if (sharded) {
    map = read_weight_map(folder + "/" + kIndexFile);
    for (const auto& [tensor, file] : map) shards.push_back(file);
    std::sort(shards.begin(), shards.end());
    shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  } else {
    shards.push_back(holds(kSingleFile) ? kSingleFile : single_file(folder, names));
  }

  for (const std::string& shard : shards) {
    const std::string shard_path = folder + "/" + shard;
    if (sharded && !exists(shard_path))
      throw Error(ExitCode::kNotFound,
                  "'" + escaped(shard_path) + "' is missing, though " + kIndexFile + " names it", shard_path);
    const int number = static_cast<int>(checkpoint.files_.size());
    checkpoint.files_.emplace_back(shard_path);
    for (TensorInfo& tensor : read_safetensors_header(checkpoint.files_.back()).tensors) {
      const auto mapped = map.find(tensor.name);
      if (sharded && (mapped == map.end() || mapped->second != shard))
        throw Error(ExitCode::kMalformed,
                    escaped(shard_path) + ": tensor '" + escaped(tensor.name) + "' lies here, but " +
                        kIndexFile +
                        (mapped == map.end() ? " does not know it"
                                             : " places it in '" + escaped(mapped->second) + "'"),
                    shard_path);
      const std::string name = tensor.name;
      checkpoint.tensors_.emplace(name, StoredTensor{std::move(tensor), number});
    }
  }
  for (const auto& [tensor, file] : map)
    if (!checkpoint.has(tensor))
      throw Error(ExitCode::kMalformed,
                  escaped(folder) + "/" + escaped(file) + ": tensor '" + escaped(tensor) +
                      "' is missing, though " + kIndexFile + " places it here",
                  folder + "/" + file);
  return checkpoint;
}

const StoredTensor& Checkpoint::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    throw Error(ExitCode::kMalformed, "'" + escaped(folder_) + "' has no tensor '" + escaped(name) + "'",
                folder_);
  return found->second;
}

Tensor Checkpoint::read(const std::string& name) const {
  const StoredTensor& stored = at(name);
  Tensor tensor(stored.info.dtype, stored.info.shape);
  read(stored, 0, {tensor.data(), static_cast<std::size_t>(stored.info.bytes)});
  return tensor;
}

void Checkpoint::read(const StoredTensor& tensor, std::int64_t offset, std::span<std::byte> bytes) const {
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (offset < 0 || offset > tensor.info.bytes || size > tensor.info.bytes - offset)
    throw internal_error("read beyond tensor '" + escaped(tensor.info.name) + "'");
  files_[static_cast<std::size_t>(tensor.file)].read_at(tensor.info.begin + offset, bytes);
}

std::int64_t Checkpoint::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += tensor.info.bytes;
  return sum;
}

}  // namespace qtool
