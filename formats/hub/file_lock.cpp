#include "formats/hub/file_lock.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace qtool {
namespace {

constexpr std::chrono::milliseconds kPause{50};
constexpr int kPausesBeforeNotice = 10;

// Whoever shares a cache may wait for its locks: group-writable, as huggingface_hub makes them.
constexpr mode_t kMode = 0664;

int open_lock(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kMode);
  if (descriptor < 0)
    throw Error(ExitCode::kIo,
                "cannot open the lock '" + escaped(path) + "': " + std::generic_category().message(errno),
                path);
  return descriptor;
}

// Whether the file is still there: a lock on one that was removed guards no name.
bool has_name(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 && status.st_nlink > 0;
}

}  // namespace

FileLock::FileLock(const std::string& path, const Cancellation& cancellation,
                   const std::function<void()>& waiting) {
  for (int pauses = 0;; ++pauses) {
    const int descriptor = open_lock(path);
    const int error = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    if (error == 0 && has_name(descriptor)) {
      descriptor_ = descriptor;
      return;
    }
    ::close(descriptor);
    if (error == ENOSYS || error == EOPNOTSUPP || error == ENOLCK) return;
    if (error != 0 && error != EWOULDBLOCK && error != EINTR && error != EACCES)
      throw Error(ExitCode::kIo,
                  "cannot lock '" + escaped(path) + "': " + std::generic_category().message(error), path);
    if (pauses == kPausesBeforeNotice) waiting();
    cancellation.sleep(kPause);
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);  // gives the lock back
}

}  // namespace qtool
