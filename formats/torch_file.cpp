#include "formats/torch_file.h"

#include <set>

#include "core/error.h"
#include "core/limits.h"
#include "formats/pickle.h"
#include "formats/zip_directory.h"

namespace qtool {
namespace {

[[noreturn]] void fail(const InputFile& file, const std::string& message,
                       ExitCode code = ExitCode::kMalformed) {
  throw Error(code, escaped(file.path()) + ": " + message, file.path());
}

// Old files begin with a pickled number instead of an archive's first member.
void refuse_old_form(const InputFile& file) {
  char first = 0;
  if (file.size() > 0) file.read_at(0, std::as_writable_bytes(std::span(&first, 1)));
  if (first == '\x80')
    fail(
        file,
        "written by torch before 1.6, in a form that qtool does not read; load and save it once with today's "
        "torch",
        ExitCode::kUnsupported);
}

std::string text_of(const InputFile& file, const ZipMember& member) {
  std::string text(static_cast<std::size_t>(member.bytes), '\0');
  file.read_at(member.begin, std::as_writable_bytes(std::span(text)));
  return text;
}

// "archive/": the folder that holds data.pkl.
std::string root_of(const InputFile& file, const std::map<std::string, ZipMember>& members) {
  for (const auto& [name, member] : members) {
    const auto slash = name.find('/');
    if (slash != std::string::npos && name.substr(slash) == "/data.pkl") return name.substr(0, slash + 1);
  }
  fail(file, "no file of torch.save(): the archive holds no data.pkl");
}

// Elements in the order of the last dimension first, as C has them...
bool is_contiguous(const PickledTensor& tensor) {
  std::int64_t stride = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

// ... or a matrix column by column: what x.t() is.
bool is_transposed(const PickledTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.strides[0] == 1 && tensor.strides[1] == tensor.shape[0];
}

TensorInfo info_of(const InputFile& file, const PickledTensor& tensor, const ZipMember& storage) {
  const std::string of = "tensor '" + escaped(tensor.name) + "' ";
  TensorInfo result;
  result.name = tensor.name;
  result.dtype = tensor.dtype;
  result.shape = tensor.shape;
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape)
    if (__builtin_mul_overflow(count, extent, &count))
      fail(file, of + "has more elements than can be counted");
  const std::int64_t held = storage.bytes / size_of(tensor.dtype);
  if (tensor.offset > held || count > held - tensor.offset)
    fail(file, of + "reaches beyond its storage of " + std::to_string(held) + " elements");
  result.transposed = count > 0 && !is_contiguous(tensor) && is_transposed(tensor);
  if (count > 0 && !is_contiguous(tensor) && !result.transposed)
    fail(file, of + "is a view with strides of its own, which is not supported", ExitCode::kUnsupported);
  result.begin = storage.begin + tensor.offset * size_of(tensor.dtype);
  result.bytes = count * size_of(tensor.dtype);
  return result;
}

}  // namespace

std::vector<TensorInfo> read_torch_file(const InputFile& file) {
  refuse_old_form(file);
  const std::map<std::string, ZipMember> members = read_zip_directory(file);
  const std::string root = root_of(file, members);
  if (const auto order = members.find(root + "byteorder");
      order != members.end() && (order->second.bytes != 6 || text_of(file, order->second) != "little"))
    fail(file, "written on a machine of another byte order, which is not supported", ExitCode::kUnsupported);
  const ZipMember& pickle = members.at(root + "data.pkl");
  if (pickle.bytes > kMaxPickleBytes)
    fail(file, "data.pkl has " + std::to_string(pickle.bytes) + " bytes, more than the " +
                   std::to_string(kMaxPickleBytes) + " that are read");

  const std::string program = text_of(file, pickle);
  std::vector<TensorInfo> tensors;
  std::set<std::string> names;
  for (const PickledTensor& tensor : read_state_dict(program, escaped(file.path()))) {
    if (tensor.name.size() > kMaxNameBytes)
      fail(file, "a tensor has a name of " + std::to_string(tensor.name.size()) + " bytes, more than " +
                     std::to_string(kMaxNameBytes));
    const auto storage = members.find(root + "data/" + tensor.storage);
    if (storage == members.end())
      fail(file, "tensor '" + escaped(tensor.name) + "' lies in a storage that the archive does not hold");
    if (!names.insert(tensor.name).second) fail(file, "tensor '" + escaped(tensor.name) + "' is there twice");
    tensors.push_back(info_of(file, tensor, storage->second));
  }
  return tensors;
}

}  // namespace qtool
