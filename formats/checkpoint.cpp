#include "formats/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/convert.h"
#include "core/error.h"
#include "core/limits.h"
#include "formats/system_error.h"
#include "formats/torch_file.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

// The forms in which a folder may hold its weights, best first.
struct WeightFiles {
  const char* single;
  const char* index;
  std::string_view extension;
  std::vector<TensorInfo> (*tensors_of)(const InputFile& file);
};
constexpr WeightFiles kSafetensors{
    "model.safetensors", "model.safetensors.index.json", ".safetensors",
    [](const InputFile& file) { return read_safetensors_header(file).tensors; }};
constexpr WeightFiles kTorch{"pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", read_torch_file};

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool begins_with(const std::string& text, std::string_view begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

// The names of the folder's files, sorted.
std::vector<std::string> names_in(const std::string& folder, const RemoteFiles& remote) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  if (error) throw system_failure("cannot list", folder, error);
  for (const auto& [name, source] : remote) names.push_back(name);
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
  for (const std::string& name : names)
    for (const char* other : {".gguf", ".pth", ".pt", ".h5", ".msgpack"})
      if (ends_with(name, other))
        throw Error(ExitCode::kUnsupported,
                    "'" + escaped(folder) + "' holds its weights as '" + escaped(name) +
                        "'; qtool reads .safetensors files and pytorch_model.bin",
                    folder);
  throw Error(ExitCode::kNotFound,
              "'" + escaped(folder) + "' holds no weights: neither " + kSafetensors.single + " nor " +
                  kSafetensors.index + " nor a single other .safetensors file nor " + kTorch.single,
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
                    " .safetensors files but no " + kSafetensors.index +
                    " that says what belongs to the model",
                folder);
  return found.front();
}

// Tensor name -> shard name, as the index has it.
std::map<std::string, std::string> read_weight_map(const std::string& path, std::string_view extension) {
  const Json index = read_json_file(path, kIndexJson);
  const auto fail = [&](const std::string& message) {
    throw Error(ExitCode::kMalformed, path + ": " + message, path);
  };
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail("has no object 'weight_map'");
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) fail("the file of tensor '" + escaped(tensor) + "' is not a string");
    const auto name = file.get<std::string>();
    // A shard lies beside its index: anything else could lead out of the folder, here or where it is copied
    // to.
    if (!ends_with(name, extension) || name.starts_with('.') || name.size() > kMaxShardNameBytes ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      fail("tensor '" + escaped(tensor) + "' is said to lie in '" + escaped(name) +
           "', which is not a plain name of a " + std::string(extension) + " file");
    map[tensor] = name;
  }
  if (map.empty()) fail("'weight_map' is empty");
  return map;
}

// A piece of a matrix whose columns lie one behind the other: a piece of each column, put the other way
// round.
void read_transposed(const InputFile& file, const TensorInfo& info, std::int64_t offset,
                     std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  const std::int64_t size = size_of(info.dtype), rows = info.shape.at(0), columns = info.shape.at(1);
  const std::int64_t row_bytes = columns * size;
  const std::int64_t first = offset / row_bytes;
  const std::int64_t count = (offset + std::ssize(bytes) + row_bytes - 1) / row_bytes - first;
  std::vector<std::byte> stored(static_cast<std::size_t>(count * row_bytes)), turned(stored.size());
  for (std::int64_t c = 0; c < columns; ++c)
    file.read_at(info.begin + (c * rows + first) * size,
                 std::span(stored).subspan(static_cast<std::size_t>(c * count * size),
                                           static_cast<std::size_t>(count * size)));
  transpose(stored.data(), columns, count, size, turned.data());
  std::copy_n(turned.begin() + (offset - first * row_bytes), bytes.size(), bytes.begin());
}

}  // namespace

Checkpoint::Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const std::string& path, const RemoteFiles& remote) {
  Checkpoint checkpoint;
  checkpoint.folder_ = folder_of(path);
  const std::string& folder = checkpoint.folder_;
  const std::vector<std::string> names = names_in(folder, remote);
  const auto holds = [&](const char* name) { return std::binary_search(names.begin(), names.end(), name); };
  check_config_is_there(folder, names);
  checkpoint.config_ = std::make_unique<Json>(read_json_file(folder + "/config.json"));
  if (!checkpoint.config_->is_object())
    throw Error(ExitCode::kMalformed, folder + "/config.json: must be an object", folder + "/config.json");

  // transformers' order: safetensors before pickles, and the single file wins over an index that an earlier
  // save may have left behind.
  const bool safe = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return ends_with(name, kSafetensors.extension) || name == kSafetensors.index;
  });
  const WeightFiles& form = !safe && (holds(kTorch.single) || holds(kTorch.index)) ? kTorch : kSafetensors;
  const bool sharded = !holds(form.single) && holds(form.index);
  std::map<std::string, std::string> map;
  std::vector<std::string> shards;
  if (sharded) {
    map = read_weight_map(folder + "/" + form.index, form.extension);
    for (const auto& [tensor, file] : map) shards.push_back(file);
    std::sort(shards.begin(), shards.end());
    shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
    if (std::ssize(shards) > kMaxShards)
      throw Error(ExitCode::kMalformed,
                  escaped(folder) + "/" + form.index + ": names " + std::to_string(shards.size()) +
                      " shards, more than " + std::to_string(kMaxShards),
                  folder);
  } else {
    shards.push_back(holds(form.single) ? form.single : single_file(folder, names));
  }

  for (const std::string& shard : shards) {
    const std::string shard_path = folder + "/" + shard;
    const auto elsewhere = remote.find(shard);
    if (sharded && elsewhere == remote.end() && !exists(shard_path))
      throw Error(ExitCode::kNotFound,
                  "'" + escaped(shard_path) + "' is missing, though " + form.index + " names it", shard_path);
    const int number = static_cast<int>(checkpoint.files_.size());
    checkpoint.files_.push_back(elsewhere == remote.end() ? InputFile(shard_path)
                                                          : InputFile(shard_path, elsewhere->second));
    for (TensorInfo& tensor : form.tensors_of(checkpoint.files_.back())) {
      const auto mapped = map.find(tensor.name);
      if (sharded && (mapped == map.end() || mapped->second != shard))
        throw Error(ExitCode::kMalformed,
                    escaped(shard_path) + ": tensor '" + escaped(tensor.name) + "' lies here, but " +
                        form.index +
                        (mapped == map.end() ? " does not know it"
                                             : " places it in '" + escaped(mapped->second) + "'"),
                    shard_path);
      const std::string name = tensor.name;
      checkpoint.tensors_.emplace(name, StoredTensor{std::move(tensor), number});
      if (std::ssize(checkpoint.tensors_) > kMaxTensors)
        throw Error(ExitCode::kMalformed,
                    "'" + escaped(folder) + "' holds more than " + std::to_string(kMaxTensors) + " tensors",
                    folder);
    }
  }
  for (const auto& [tensor, file] : map)
    if (!checkpoint.has(tensor))
      throw Error(ExitCode::kMalformed,
                  escaped(folder) + "/" + escaped(file) + ": tensor '" + escaped(tensor) +
                      "' is missing, though " + form.index + " places it here",
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
  const InputFile& file = files_[static_cast<std::size_t>(tensor.file)];
  if (tensor.info.transposed) return read_transposed(file, tensor.info, offset, bytes);
  file.read_at(tensor.info.begin + offset, bytes);
}

std::int64_t Checkpoint::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += tensor.info.bytes;
  return sum;
}

}  // namespace qtool
