#include "formats/replace_folder.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <linux/fs.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"

namespace qtool {
namespace {

Error rename_error(const std::string& from, const std::string& to, int error) {
  return Error(ExitCode::kIo,
               "cannot rename '" + escaped(from) + "' to '" + escaped(to) +
                   "': " + std::generic_category().message(error),
               to);
}

// Whether an error of renameat2 means that the file system lacks the flag rather than that the rename failed.
bool flag_unknown(int error) { return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP; }

bool anything_at(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

void remove_old(const std::string& old, const std::string& target) {
  std::error_code error;
  std::filesystem::remove_all(old, error);
  if (error)
    throw Error(ExitCode::kIo,
                "'" + escaped(target) + "' is written, but what it replaced could not be removed from '" +
                    escaped(old) + "': " + error.message(),
                old);
}

}  // namespace

void sync_path(const std::string& path) {
  const auto uninterrupted = [](auto call) {
    int result = call();
    while (result < 0 && errno == EINTR) result = call();
    return result;
  };
  const int descriptor = uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  const int failed = descriptor < 0 ? -1 : uninterrupted([&] { return ::fsync(descriptor); });
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  // Some network file systems cannot sync a folder and say so with EINVAL: then there is nothing to wait for.
  if (failed && error != EINVAL)
    throw Error(ExitCode::kIo,
                "cannot write '" + escaped(path) + "' to the disk: " + std::generic_category().message(error),
                path);
}

void name_folder(const std::string& made, const std::string& target) {
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) return;
  int error = errno;
  // A plain rename replaces an empty folder, but fails as wanted where something is in it.
  if (flag_unknown(error)) error = std::rename(made.c_str(), target.c_str()) == 0 ? 0 : errno;
  if (error == EEXIST || error == ENOTEMPTY || error == ENOTDIR)
    throw Error(ExitCode::kUsage,
                "'" + escaped(target) + "' exists already: another process may have written it meanwhile",
                target);
  if (error) throw rename_error(made, target, error);
}

void replace_folder(const std::string& made, const std::string& target, Exchange how) {
  if (!anything_at(target)) return name_folder(made, target);
  const std::string parent = std::filesystem::path(target).parent_path().string();
  if (how == Exchange::kAtomic) {
    if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
      sync_path(parent);
      return remove_old(made, target);  // the old folder has the staging name now
    }
    if (!flag_unknown(errno)) throw rename_error(made, target, errno);
  }
  const std::string aside = made + ".old";
  std::error_code ignored;                      // the rename says what is in its way
  std::filesystem::remove_all(aside, ignored);  // left by one who was killed here
  if (std::rename(target.c_str(), aside.c_str())) throw rename_error(target, aside, errno);
  if (std::rename(made.c_str(), target.c_str())) {
    const int error = errno;
    if (std::rename(aside.c_str(), target.c_str()))
      throw Error(ExitCode::kIo,
                  "cannot give '" + escaped(target) + "' its name; what it had held lies at '" +
                      escaped(aside) + "' now",
                  target);
    throw rename_error(made, target, error);
  }
  sync_path(parent);
  remove_old(aside, target);
}

}  // namespace qtool
