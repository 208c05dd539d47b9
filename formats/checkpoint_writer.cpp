#include "formats/checkpoint_writer.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <numeric>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/interrupt.h"
#include "formats/replace_folder.h"
#include "formats/system_error.h"

namespace qtool {
namespace {

constexpr std::int64_t kCopyBytes = std::int64_t{4} << 20;
constexpr std::string_view kFinished = "finished";  // SHARD LENGTH...: a note about a file

std::span<const std::byte> bytes_of_text(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

void remove_file(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::remove(path, failure) || failure)
    throw system_failure("cannot remove", path, failure);
}

void rename_file(const std::string& from, const std::string& to) {
  std::error_code failure;
  std::filesystem::rename(from, to, failure);
  if (failure)
    throw Error(ExitCode::kIo, "cannot rename '" + from + "' to '" + to + "': " + failure.message(), to);
}

std::vector<TensorSpec> specs_of(const std::vector<PlannedTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : tensors) specs.push_back(tensor.spec);
  return specs;
}

}  // namespace

CheckpointWriter::CheckpointWriter(AtomicFolder& folder, const std::vector<PlannedTensor>& tensors,
                                   std::int64_t max_shard_bytes, const std::string& work)
    : folder_(folder),
      max_shard_bytes_(max_shard_bytes),
      tensors_(tensors),
      foreseen_(shard_layout(specs_of(tensors), max_shard_bytes)),
      opens_before_(tensors.size()),
      kept_(foreseen_.shards.size()),
      open_(foreseen_.shards.size()),
      length_change_(tensors.size()),
      length_known_(tensors.size()),
      missing_(foreseen_.shards.size()) {
  std::vector<std::vector<std::size_t>> members;  // tensors of each shard, in file order
  for (const Shard& shard : foreseen_.shards) members.emplace_back(shard.layout.tensors.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    members[foreseen_.places[i].shard][foreseen_.places[i].index] = i;

  for (std::size_t shard = 0; shard < members.size(); ++shard) {
    OpenTensors& open = open_[shard];
    for (const std::size_t tensor : members[shard]) {
      opens_before_[tensor] = open.tensors.size();
      missing_[shard] += foreseen_.info(tensor).bytes;
      if (tensors_[tensor].open_length) open.tensors.push_back(tensor);
    }
    open.shift.assign(open.tensors.size() + 1, 0);
  }

  std::set<std::string> names;
  if (const auto& notes = folder_.notes(); !notes.empty()) {
    if (notes.front() == work) names = adopt(notes);
    folder_.keep_only(names);
  }
  if (names.empty()) folder_.note(work, Journal::Sync::kYes);
  for (std::size_t shard = 0; shard < members.size(); ++shard)
    files_.push_back(std::make_unique<OutputFile>(
        folder_.path_of(foreseen_.shards[shard].file),
        kept_[shard] ? OutputFile::Existing::kKept : OutputFile::Existing::kEmptied));
  sync_path(folder_.path_of("."));  // a note about a file must not outlive its name
}

// Takes over the files that `notes` call finished; their names.
std::set<std::string> CheckpointWriter::adopt(const std::vector<std::string>& notes) {
  std::set<std::string> names;
  for (const std::string& note : notes) {
    std::istringstream words(note);
    std::string word;
    std::size_t shard = 0;
    if (!(words >> word >> shard) || word != kFinished || shard >= foreseen_.shards.size()) continue;
    const std::vector<std::int64_t> lengths{std::istream_iterator<std::int64_t>(words), {}};
    if (words.eof() && adopt(shard, lengths)) names.insert(foreseen_.shards[shard].file);
  }
  return names;
}

// False where the file is not what was noted.
bool CheckpointWriter::adopt(std::size_t shard, const std::vector<std::int64_t>& lengths) {
  const OpenTensors& open = open_[shard];
  if (kept_[shard] || lengths.size() != open.tensors.size()) return false;
  const SafetensorsLayout& layout = foreseen_.shards[shard].layout;
  std::int64_t bytes = layout.file_bytes;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] < 0 || lengths[i] > kMaxHeaderBytes) return false;
    bytes += lengths[i] - tensors_[open.tensors[i]].spec.shape.at(0);
  }
  std::error_code failure;
  const std::string path = folder_.path_of(foreseen_.shards[shard].file);
  const bool is_file =
      std::filesystem::symlink_status(path, failure).type() == std::filesystem::file_type::regular;
  if (!is_file || static_cast<std::int64_t>(std::filesystem::file_size(path, failure)) != bytes || failure)
    return false;
  for (std::size_t i = 0; i < lengths.size(); ++i) settle(open.tensors[i], lengths[i]);
  kept_[shard] = true;
  return true;
}

std::size_t CheckpointWriter::kept_files() const {
  return static_cast<std::size_t>(std::count(kept_.begin(), kept_.end(), true));
}

std::int64_t CheckpointWriter::kept_bytes() const {
  std::int64_t bytes = 0;
  for (std::size_t shard = 0; shard < kept_.size(); ++shard)
    if (kept_[shard]) bytes += foreseen_.shards[shard].layout.file_bytes;
  return bytes;
}

void CheckpointWriter::set_length(std::size_t tensor, std::int64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (kept(tensor) && tensors_[tensor].spec.shape.at(0) == bytes) return;
    if (!tensors_[tensor].open_length || length_known_[tensor])
      throw internal_error("the length of '" + tensors_[tensor].spec.name + "' was set twice or is not open");
    settle(tensor, bytes);
  }
  settled_.notify_all();
}

// The open tensor's length is known: what follows moves, up to the next one that is not.
void CheckpointWriter::settle(std::size_t tensor, std::int64_t bytes) {
  const std::size_t shard = foreseen_.places[tensor].shard;
  length_known_[tensor] = true;
  length_change_[tensor] = bytes - tensors_[tensor].spec.shape.at(0);
  missing_[shard] += length_change_[tensor];
  tensors_[tensor].spec.shape = {bytes};
  OpenTensors& open = open_[shard];
  while (open.settled < open.tensors.size() && length_known_[open.tensors[open.settled]]) {
    open.shift[open.settled + 1] = open.shift[open.settled] + length_change_[open.tensors[open.settled]];
    ++open.settled;
  }
}

// Where the tensor's bytes begin in its file, as written.
std::int64_t CheckpointWriter::place_of(std::size_t tensor) {
  const OpenTensors& open = open_[foreseen_.places[tensor].shard];
  std::unique_lock lock(mutex_);
  settled_.wait(lock, [&] { return cancelled_ || open.settled >= opens_before_[tensor]; });
  if (cancelled_) throw Error(ExitCode::kInterrupted, "writing was cancelled");
  if (tensors_[tensor].open_length && !length_known_[tensor])
    throw internal_error("'" + tensors_[tensor].spec.name + "' is written before its length is known");
  return foreseen_.info(tensor).begin + open.shift[opens_before_[tensor]];
}

void CheckpointWriter::write(std::size_t tensor, std::int64_t offset, std::span<const std::byte> bytes) {
  const std::int64_t begin = place_of(tensor);
  const TensorSpec& spec = tensors_[tensor].spec;
  if (offset < 0 || offset + std::ssize(bytes) > count_of(spec.shape) * size_of(spec.dtype))
    throw internal_error("'" + spec.name + "' is written beyond its end");
  const std::size_t shard = foreseen_.places[tensor].shard;
  if (kept_[shard] || bytes.empty()) return;
  files_[shard]->write_at(begin + offset, bytes);
  {
    const std::lock_guard lock(mutex_);
    missing_[shard] -= std::ssize(bytes);
    if (missing_[shard] != 0) return;
  }
  end_file(shard);
}

// All bytes are written but for the header, which is the same in every run: what a successor need not do
// again.
void CheckpointWriter::end_file(std::size_t shard) {
  files_[shard]->sync();
  std::string note = std::string(kFinished) + " " + std::to_string(shard);
  for (const std::size_t tensor : open_[shard].tensors)
    note += " " + std::to_string(tensors_[tensor].spec.shape.at(0));
  folder_.note(note, Journal::Sync::kYes);
}

void CheckpointWriter::cancel() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  settled_.notify_all();
}

// True when every tensor of the true layout's shard lies where the header will say.
bool CheckpointWriter::in_place(const ShardLayout& layout, std::size_t shard,
                                const std::vector<std::int64_t>& written_at) const {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (layout.places[i].shard != shard) continue;
    if (foreseen_.places[i].shard != shard || layout.info(i).begin != written_at[i]) return false;
  }
  return shard < files_.size();
}

// Puts a file of the true layout together from the pieces that lie in the files written.
void CheckpointWriter::rebuild(const ShardLayout& layout, std::size_t shard,
                               const std::vector<std::int64_t>& written_at, OutputFile& out) const {
  std::vector<std::byte> buffer;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (layout.places[i].shard != shard) continue;
    const InputFile in(files_[foreseen_.places[i].shard]->path());
    const TensorInfo& tensor = layout.info(i);
    for (std::int64_t done = 0; done < tensor.bytes; done += std::ssize(buffer)) {
      stop_if_interrupted();
      buffer.resize(static_cast<std::size_t>(std::min(kCopyBytes, tensor.bytes - done)));
      in.read_at(written_at[i] + done, buffer);
      out.write_at(tensor.begin + done, buffer);
    }
  }
}

CheckpointWriter::Result CheckpointWriter::finish(std::int64_t total_parameters) {
  std::vector<std::int64_t> written_at;
  for (std::size_t i = 0; i < tensors_.size(); ++i) written_at.push_back(place_of(i));

  Result result{shard_layout(specs_of(tensors_), max_shard_bytes_), 0};
  const ShardLayout& layout = result.layout;
  // All new files first: they read the old ones, which must be whole until then.
  std::vector<std::unique_ptr<OutputFile>> rebuilt(layout.shards.size());
  for (std::size_t shard = 0; shard < layout.shards.size(); ++shard) {
    if (in_place(layout, shard, written_at)) continue;
    rebuilt[shard] = std::make_unique<OutputFile>(folder_.path_of("rebuilt-" + std::to_string(shard + 1)));
    rebuild(layout, shard, written_at, *rebuilt[shard]);
    ++result.rebuilt_files;
  }
  if (result.rebuilt_files > 0 || layout.shards.size() != files_.size()) folder_.forget();
  for (std::size_t shard = 0; shard < std::max(layout.shards.size(), files_.size()); ++shard) {
    if (shard >= layout.shards.size() || rebuilt[shard]) {
      if (shard < files_.size()) remove_file(files_[shard]->path());
      if (shard >= layout.shards.size()) continue;
    }
    OutputFile& file = rebuilt[shard] ? *rebuilt[shard] : *files_[shard];
    file.write_at(0, bytes_of_text(layout.shards[shard].layout.prefix));
    file.resize(layout.shards[shard].layout.file_bytes);
    file.sync();
    const std::string path = folder_.path_of(layout.shards[shard].file);
    if (file.path() != path) rename_file(file.path(), path);
  }
  if (layout.shards.size() > 1)
    folder_.write("model.safetensors.index.json", index_json(layout, total_parameters));
  return result;
}

std::vector<std::size_t> write_order(const ShardLayout& layout,
                                     const std::vector<std::vector<std::size_t>>& pieces) {
  using Key = std::pair<std::size_t, std::size_t>;  // shard, position in its file
  std::vector<Key> last(pieces.size(), {std::numeric_limits<std::size_t>::max(), 0});
  for (std::size_t owner = 0; owner < pieces.size(); ++owner) {
    if (pieces[owner].empty()) continue;
    last[owner] = {0, 0};
    for (const std::size_t piece : pieces[owner])
      last[owner] = std::max(last[owner], Key{layout.places[piece].shard, layout.places[piece].index});
  }
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return last[a] < last[b]; });
  return order;
}

}  // namespace qtool
