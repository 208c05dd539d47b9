#include <cerrno>
#include <filesystem>
#include <random>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"
#include "formats/file.h"
#include "formats/replace_folder.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

// An absolute path without "." and "..", which ends in a name.
std::string whole_path(const std::string& target) {
  fs::path path = target.empty() ? fs::path() : fs::absolute(target).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();  // "a/b/"
  if (path.filename().empty())
    throw Error(ExitCode::kUsage,
                "'" + escaped(target) + "' cannot be written: it names no folder of its own", target);
  return path.string();
}

// A hidden sibling, so that the final rename stays within one file system. Process id and chance keep several
// writers of the same target apart.
std::string make_staging(const std::string& target) {
  const fs::path path(target);
  std::random_device chance;
  while (true) {
    const std::string name = "." + path.filename().string() + ".qtool-" + std::to_string(::getpid()) + "-" +
                             std::to_string(chance());
    const std::string staging = (path.parent_path() / name).string();
    if (::mkdir(staging.c_str(), 0777) == 0) return staging;
    if (errno == EEXIST) continue;
    const std::string why =
        errno == ENOENT ? "the folder does not exist" : std::generic_category().message(errno);
    throw Error(ExitCode::kIo, "cannot write into '" + escaped(path.parent_path().string()) + "': " + why,
                target);
  }
}

}  // namespace

AtomicFolder::AtomicFolder(const std::string& target, bool replace)
    : target_(whole_path(target)), replace_(replace) {
  const fs::file_type type = fs::symlink_status(target_).type();
  if (type != fs::file_type::not_found) {
    if (!replace)
      throw Error(ExitCode::kUsage,
                  "'" + escaped(target) + "' exists already; name another folder or use --force", target);
    if (type != fs::file_type::directory)
      throw Error(ExitCode::kUsage,
                  "'" + escaped(target) + "' is not a folder and will not be replaced by one", target);
  }
  staging_ = make_staging(target_);
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;  // a destructor has nobody to tell
  fs::remove_all(staging_, ignored);
}

std::string AtomicFolder::path_of(const std::string& name) const { return staging_ + "/" + name; }

void AtomicFolder::write(const std::string& name, std::string_view content) {
  OutputFile file(path_of(name));
  file.write_at(0, std::as_bytes(std::span(content)));
  file.sync();
}

// Contents first, then the folder's entries, then the name, then the parent's entries: after a power cut the
// name exists only if all that it stands for does.
void AtomicFolder::commit() {
  try {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(staging_))
      sync_path(entry.path().string());
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kIo, "cannot read '" + escaped(staging_) + "': " + error.code().message(),
                staging_);
  }
  sync_path(staging_);
  if (replace_)
    replace_folder(staging_, target_);
  else
    name_folder(staging_, target_);
  committed_ = true;
  sync_path(fs::path(target_).parent_path().string());
}

}  // namespace qtool
