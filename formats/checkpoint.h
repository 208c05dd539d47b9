// A Hugging Face checkpoint folder: config.json and one or many safetensors files (else pytorch_model.bin),
// as one map from names to tensors.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/safetensors.h"

namespace qtool {

// Where a tensor's bytes lie.
struct StoredTensor {
  TensorInfo info;
  int file = 0;  // index into Checkpoint::files()
};

// Files of the folder, by name, that are read from elsewhere.
using RemoteFiles = std::map<std::string, std::shared_ptr<const ByteSource>>;

class Checkpoint {
 public:
  // Opens config.json, the index if there is one, and every shard's header; reads no weights.
  // Errors: kNotFound (folder, config.json, a shard), kMalformed (index and shards disagree, ...),
  // kUnsupported (weights in other forms only).
  static Checkpoint open(const std::string& folder, const RemoteFiles& remote = {});

  const std::string& folder() const { return folder_; }
  const Json& config() const { return *config_; }
  const std::vector<InputFile>& files() const { return files_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }

  bool has(const std::string& name) const { return tensors_.contains(name); }
  const StoredTensor& at(const std::string& name) const;  // errors: kMalformed, naming the tensor
  Tensor read(const std::string& name) const;             // the whole tensor
  // `bytes.size()` bytes of a tensor from byte `offset` on.
  void read(const StoredTensor& tensor, std::int64_t offset, std::span<std::byte> bytes) const;
  std::int64_t bytes() const;  // of all tensors

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

 private:
  Checkpoint();
  std::string folder_;
  std::unique_ptr<Json> config_;
  std::vector<InputFile> files_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace qtool
