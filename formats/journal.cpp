#include "formats/journal.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"

namespace qtool {
namespace {

constexpr off_t kLargest = off_t{64} << 20;  // of what is believed; a line a file and a tensor is far less

Error journal_error(const std::string& path, int error) {
  return Error(ExitCode::kIo,
               "cannot write '" + escaped(path) + "': " + std::generic_category().message(error), path);
}

template <typename Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Whether `path` still names the open file: its last holder removes it before letting go.
bool is_named(int descriptor, const std::string& path) {
  struct stat open {
  }, named{};
  return ::fstat(descriptor, &open) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

}  // namespace

Journal::Journal(const std::string& path, const std::string& busy) : path_(path) {
  while (true) {
    constexpr int kFlags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
    descriptor_ = uninterrupted([&] { return ::open(path.c_str(), kFlags, 0600); });
    if (descriptor_ < 0) throw journal_error(path, errno);
    if (uninterrupted([&] { return ::flock(descriptor_, LOCK_EX | LOCK_NB); })) {
      const int error = errno;
      ::close(descriptor_);
      descriptor_ = -1;
      if (error == EWOULDBLOCK) throw Error(ExitCode::kUsage, busy, path);
      ::unlink(path.c_str());  // a file system without locks
      return;
    }
    if (is_named(descriptor_, path)) break;
    ::close(descriptor_);
  }
  try {
    read_lines();
  } catch (...) {  // the destructor does not run for an object that was never made
    ::unlink(path.c_str());
    ::close(descriptor_);
    throw;
  }
}

Journal::~Journal() {
  if (descriptor_ < 0) return;
  if (!kept_) ::unlink(path_.c_str());  // before the lock goes
  ::close(descriptor_);
}

void Journal::read_lines() {
  struct stat status {};
  if (::fstat(descriptor_, &status)) throw journal_error(path_, errno);
  if (status.st_uid != ::geteuid() || status.st_size > kLargest) return clear();
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t used = 0;
  while (used < text.size()) {
    const ssize_t got = uninterrupted([&] {
      return ::pread(descriptor_, text.data() + used, text.size() - used, static_cast<off_t>(used));
    });
    if (got < 0) throw journal_error(path_, errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  text.resize(used);
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    found_.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  // A line that was being written when the power went.
  if (uninterrupted([&] { return ::ftruncate(descriptor_, static_cast<off_t>(begin)); }))
    throw journal_error(path_, errno);
}

void Journal::clear() {
  found_.clear();
  if (!locked()) return;
  if (uninterrupted([&] { return ::ftruncate(descriptor_, 0); }) ||
      uninterrupted([&] { return ::fsync(descriptor_); }))
    throw journal_error(path_, errno);
}

void Journal::append(std::string_view line, Sync sync) {
  if (!locked()) return;
  const std::string whole = std::string(line) + "\n";
  const std::lock_guard lock(mutex_);
  for (std::string_view rest = whole; !rest.empty();) {
    const ssize_t put = uninterrupted([&] { return ::write(descriptor_, rest.data(), rest.size()); });
    if (put < 0) throw journal_error(path_, errno);
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
  if (sync == Sync::kYes && uninterrupted([&] { return ::fsync(descriptor_); }))
    throw journal_error(path_, errno);
}

}  // namespace qtool
