#include "formats/hub/cache.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"
#include "formats/file.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestRef = 4096;
// https://bford.info/cachedir/
constexpr std::string_view kCacheTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n# Files of models, downloaded from the Hugging Face Hub.\n";

std::string folder_name(const std::string& repository) {
  std::string name = "models--" + repository;
  name.replace(name.find('/'), 1, "--");
  return name;
}

[[noreturn]] void fail(const std::string& path, int error) {
  throw Error(ExitCode::kIo,
              "cannot write '" + escaped(path) + "': " + std::generic_category().message(error), path);
}

void make_folder(const std::string& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) fail(path, failure.value());
}

std::string temporary_name(const std::string& path) {
  std::random_device chance;
  return path + "." + std::to_string(::getpid()) + "-" + std::to_string(chance()) + ".tmp";
}

void rename_to(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  const int error = errno;
  ::unlink(from.c_str());
  fail(to, error);
}

// A small file that appears whole or not at all.
void write_whole(const std::string& path, std::string_view text) {
  const std::string temporary = temporary_name(path);
  {
    OutputFile file(temporary);
    file.write_at(0, std::as_bytes(std::span(text)));
  }
  rename_to(temporary, path);
}

std::int64_t size_of(const std::string& path) {  // -1: no such file
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) ? status.st_size : -1;
}

}  // namespace

HubCache::HubCache(const std::string& root, const std::string& repository)
    : root_(root),
      folder_(root + "/" + folder_name(repository)),
      locks_(root + "/.locks/" + folder_name(repository)) {}

std::optional<std::string> HubCache::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const std::string path = folder_ + "/refs/" + revision;
  if (!fs::is_regular_file(path)) return std::nullopt;
  std::string commit = read_file(path, kLargestRef);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r' || commit.back() == ' '))
    commit.pop_back();
  if (!is_commit(commit))
    throw Error(ExitCode::kMalformed, "'" + escaped(path) + "' must hold a commit; remove it and pull again",
                path);
  return commit;
}

bool HubCache::shows(const std::string& commit, const HubFile& file) const {
  return size_of(snapshot(commit) + "/" + file.path) == file.size;
}

bool HubCache::holds(const HubFile& file) const { return size_of(blob(file.etag)) == file.size; }

void HubCache::check_links(const std::string& commit) const {
  const auto within = [](const fs::path& path, const fs::path& folder) {
    return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
  };
  std::error_code failure;
  const fs::path blobs = fs::absolute(folder_ + "/blobs", failure).lexically_normal();
  for (fs::recursive_directory_iterator at(snapshot(commit), failure), end; !failure && at != end;
       at.increment(failure)) {
    const fs::path& path = at->path();
    if (!fs::is_symlink(at->symlink_status(failure))) continue;
    const fs::path target =
        (fs::absolute(path, failure).parent_path() / fs::read_symlink(path, failure)).lexically_normal();
    // As written, or (a cache that is itself reached through links) as it really is.
    if (within(target, blobs) ||
        within(fs::weakly_canonical(target, failure), fs::weakly_canonical(blobs, failure)))
      continue;
    throw Error(ExitCode::kMalformed,
                "'" + escaped(path.string()) + "' links to '" + escaped(target.string()) +
                    "', which is none of the model's own blobs; remove the snapshot and pull it again",
                path.string());
  }
}

void HubCache::make_folders() const {
  for (const std::string& path : {folder_ + "/blobs", folder_ + "/refs", folder_ + "/snapshots", locks_})
    make_folder(path);
  const std::string tag = root_ + "/CACHEDIR.TAG";
  if (!exists(tag)) write_whole(tag, kCacheTag);
}

void HubCache::link(const std::string& commit, const HubFile& file) const {
  const std::string path = snapshot(commit) + "/" + file.path;
  std::string target = "../../";
  for (const char c : file.path)
    if (c == '/') target += "../";
  target += "blobs/" + file.etag;

  std::error_code failure;
  if (fs::read_symlink(path, failure) == target) return;
  if (!fs::is_symlink(path) && shows(commit, file)) return;  // a copy, where there are no links
  make_folder(fs::path(path).parent_path().string());
  const std::string temporary = temporary_name(path);
  if (::symlink(target.c_str(), temporary.c_str()) == 0) return rename_to(temporary, path);
  const int error = errno;
  // A file system without links: the snapshot holds the file itself, as huggingface_hub does it.
  if (error != EPERM && error != EOPNOTSUPP && error != ENOSYS) fail(path, error);
  rename_to(blob(file.etag), path);
}

void HubCache::write_ref(const std::string& revision, const std::string& commit) const {
  if (is_commit(revision)) return;
  const std::string path = folder_ + "/refs/" + revision;
  if (fs::is_regular_file(path) && read_file(path, kLargestRef) == commit) return;
  make_folder(fs::path(path).parent_path().string());
  write_whole(path, commit);
}

}  // namespace qtool
