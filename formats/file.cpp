#include "formats/file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "core/error.h"

namespace qtool {
namespace {

// Written to a file before the disk is asked to take it.
constexpr std::int64_t kFreshBytes = std::int64_t{64} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

// "cannot read 'x': Permission denied"; a missing file has a code of its own.
Error open_error(const std::string& path, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  return Error(missing ? ExitCode::kNotFound : ExitCode::kIo,
               missing ? "'" + escaped(path) + "' does not exist"
                       : "cannot open '" + escaped(path) + "': " + reason(error),
               path);
}

Error too_large(const std::string& path, std::int64_t max_bytes) {
  return Error(ExitCode::kMalformed,
               "'" + escaped(path) + "' is larger than the " + std::to_string(max_bytes) +
                   " bytes such a file may have",
               path);
}

Error write_error(const std::string& path, int error) {
  std::string message = "cannot write '" + escaped(path) + "': " + reason(error);
  if (error == ENOSPC || error == EDQUOT)
    message += " (" + std::to_string(free_bytes_at(path)) + " bytes free)";
  return Error(ExitCode::kIo, message, path);
}

// Repeats a system call that a signal interrupted.
template <typename Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

void close_file(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever; on regular files it means nothing.
  descriptor_ = uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (descriptor_ < 0) throw open_error(path, errno);
  struct stat status {};
  const int failed = ::fstat(descriptor_, &status);
  if (failed || !S_ISREG(status.st_mode)) {
    const std::string why = failed ? reason(errno) : "not a regular file";
    close_file(descriptor_);  // the destructor does not run for an object that was never made
    throw Error(ExitCode::kIo, "cannot read '" + escaped(path) + "': " + why, path);
  }
  size_ = status.st_size;
}

InputFile::InputFile(const std::string& path, std::shared_ptr<const ByteSource> source)
    : path_(path), size_(source->size()), source_(std::move(source)) {}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      source_(std::move(other.source_)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(source_, other.source_);
  return *this;
}

InputFile::~InputFile() { close_file(descriptor_); }

void InputFile::read_at(std::int64_t offset, std::span<std::byte> out) const {
  if (source_) return source_->read_at(offset, out);
  while (!out.empty()) {
    const ssize_t got = uninterrupted([&] { return ::pread(descriptor_, out.data(), out.size(), offset); });
    if (got < 0) throw Error(ExitCode::kIo, "cannot read '" + escaped(path_) + "': " + reason(errno), path_);
    if (got == 0)
      throw Error(ExitCode::kIo,
                  "'" + escaped(path_) + "' ends at byte " + std::to_string(offset) + ", " +
                      std::to_string(out.size()) + " bytes early: it has been changed while it was read",
                  path_);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

std::string read_file(const std::string& path, std::int64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) throw too_large(path, max_bytes);
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(content)));
  return content;
}

std::string read_input(const std::string& path, std::int64_t max_bytes) {
  int descriptor = uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (descriptor < 0) throw open_error(path, errno);
  std::string content;
  std::size_t used = 0;
  while (true) {  // not by the file's size: a pipe has none
    const std::size_t room = std::max<std::size_t>(used, std::size_t{64} << 10);
    content.resize(used + room);
    const ssize_t got = uninterrupted([&] { return ::read(descriptor, content.data() + used, room); });
    const int error = got < 0 ? errno : 0;
    if (got > 0) used += static_cast<std::size_t>(got);
    const bool oversized = used > static_cast<std::size_t>(max_bytes);
    if (got > 0 && !oversized) continue;
    close_file(descriptor);
    if (error) throw Error(ExitCode::kIo, "cannot read '" + escaped(path) + "': " + reason(error), path);
    if (oversized) throw too_large(path, max_bytes);
    content.resize(used);
    return content;
  }
}

OutputFile::OutputFile(const std::string& path, Existing existing) : path_(path) {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | (existing == Existing::kEmptied ? O_TRUNC : 0);
  descriptor_ = uninterrupted([&] { return ::open(path.c_str(), flags, 0666); });
  if (descriptor_ < 0) throw write_error(path, errno);
}

OutputFile::~OutputFile() { close_file(descriptor_); }

void OutputFile::write_at(std::int64_t offset, std::span<const std::byte> data) {
  bool many = false;
  {
    const std::lock_guard turn(turn_);
    fresh_ += std::ssize(data);
    while (!data.empty()) {
      const ssize_t put =
          uninterrupted([&] { return ::pwrite(descriptor_, data.data(), data.size(), offset); });
      if (put < 0) throw write_error(path_, errno);
      data = data.subspan(static_cast<std::size_t>(put));
      offset += put;
    }
    if (fresh_ >= kFreshBytes) {
      many = true;
      fresh_ = 0;
    }
  }
  if (many) ::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE);  // sync() would say what fails
}

void OutputFile::resize(std::int64_t bytes) {
  if (uninterrupted([&] { return ::ftruncate(descriptor_, bytes); })) throw write_error(path_, errno);
}

void OutputFile::sync() {
  if (uninterrupted([&] { return ::fsync(descriptor_); })) throw write_error(path_, errno);
}

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

std::int64_t free_bytes_at(const std::string& path) {
  std::filesystem::path at = std::filesystem::path(path).lexically_normal();
  while (true) {
    struct statvfs status {};
    if (::statvfs(at.empty() ? "." : at.c_str(), &status) == 0)
      return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
    if (at.empty() || at == at.parent_path())
      throw Error(ExitCode::kIo, "cannot ask for the free space at '" + escaped(path) + "': " + reason(errno),
                  path);
    at = at.parent_path();
  }
}

}  // namespace qtool
