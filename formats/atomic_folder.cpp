#include "formats/atomic_folder.h"

#include <cerrno>
#include <filesystem>
#include <random>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"
#include "core/interrupt.h"
#include "formats/file.h"
#include "formats/replace_folder.h"
#include "formats/system_error.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

// An absolute path without "." and "..", which ends in a name.
std::string whole_path(const std::string& target) {
  std::error_code failure;
  fs::path path = target.empty() ? fs::path() : fs::absolute(target, failure).lexically_normal();
  if (failure) throw system_failure("cannot follow", target, failure);
  if (path.filename().empty()) path = path.parent_path();  // "a/b/"
  if (path.filename().empty())
    throw Error(ExitCode::kUsage,
                "'" + escaped(target) + "' cannot be written: it names no folder of its own", target);
  return path.string();
}

// A hidden sibling of the target, so that the final rename stays within one file system.
std::string hidden(const std::string& target, const std::string& ending) {
  const fs::path path(target);
  return (path.parent_path() / ("." + path.filename().string() + ".qtool" + ending)).string();
}

Error cannot_write_into(const std::string& folder, int error, const std::string& target) {
  const std::string why =
      error == ENOENT ? "the folder does not exist" : std::generic_category().message(error);
  return Error(ExitCode::kIo, "cannot write into '" + escaped(folder) + "': " + why, target);
}

std::unique_ptr<Journal> make_journal(const std::string& target) {
  const fs::path parent = fs::path(target).parent_path();
  if (::access(parent.c_str(), W_OK | X_OK)) throw cannot_write_into(parent.string(), errno, target);
  return std::make_unique<Journal>(
      hidden(target, "-journal"),
      "another process is writing '" + escaped(target) + "': wait for it, or name another folder");
}

// Where nothing can be locked, process id and chance keep several writers of the same target apart.
std::string staging_name(const std::string& target, bool locked) {
  if (locked) return hidden(target, "");
  return hidden(target, "-" + std::to_string(::getpid()) + "-" + std::to_string(std::random_device()()));
}

void remove_folder(const std::string& path) {
  std::error_code failure;
  fs::remove_all(path, failure);
  if (failure) throw system_failure("cannot remove", path, failure);
}

// A folder, no link to one, that nobody else has put there.
bool is_own_folder(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::geteuid();
}

}  // namespace

AtomicFolder::AtomicFolder(const std::string& target, bool replace, Leftovers leftovers)
    : target_(whole_path(target)), replace_(replace) {
  check_target();
  journal_ = make_journal(target_);
  check_target();  // who had the lock before may have written it meanwhile
  staging_ = staging_name(target_, journal_->locked());
  const bool any = fs::symlink_status(staging_).type() != fs::file_type::not_found;
  const bool kept =
      any && leftovers == Leftovers::kKept && !journal_->found().empty() && is_own_folder(staging_);
  if (!kept) {
    journal_->clear();
    if (any) remove_folder(staging_);
    if (::mkdir(staging_.c_str(), 0777))
      throw cannot_write_into(fs::path(target_).parent_path().string(), errno, target_);
  }
  discarded_ = any && !kept;
}

void AtomicFolder::check_target() const {
  std::error_code failure;
  const fs::file_type type = fs::symlink_status(target_, failure).type();
  if (type == fs::file_type::not_found) return;
  if (type == fs::file_type::none) throw system_failure("cannot look at", target_, failure);
  if (!replace_)
    throw Error(ExitCode::kUsage,
                "'" + escaped(target_) + "' exists already; name another folder or use --force", target_);
  if (type != fs::file_type::directory)
    throw Error(ExitCode::kUsage,
                "'" + escaped(target_) + "' is not a folder and will not be replaced by one", target_);
}

AtomicFolder::~AtomicFolder() {
  if (!journal_ || suspended_) return;
  try {
    std::error_code ignored;
    fs::remove_all(staging_, ignored);
  } catch (...) {  // there may be no memory even for that, and a destructor has nobody to tell
  }
}

std::string AtomicFolder::path_of(const std::string& name) const { return staging_ + "/" + name; }

void AtomicFolder::write(const std::string& name, std::string_view content) {
  OutputFile file(path_of(name));
  file.write_at(0, std::as_bytes(std::span(content)));
  file.sync();
}

void AtomicFolder::keep_only(const std::set<std::string>& names) {
  std::error_code failure;
  std::vector<std::string> others;
  for (fs::directory_iterator entry(staging_, failure), end; !failure && entry != end;
       entry.increment(failure))
    if (!names.contains(entry->path().filename().string())) others.push_back(entry->path().string());
  if (failure) throw system_failure("cannot list", staging_, failure);
  if (names.empty()) journal_->clear();  // first: notes must not speak of what is gone
  for (const std::string& other : others) remove_folder(other);
}

void AtomicFolder::suspend() {
  if (!journal_ || !journal_->locked()) return;
  journal_->keep();
  suspended_ = true;
}

// Contents first, then the folder's entries, then the name, then the parent's entries: after a power cut the
// name exists only if all that it stands for does.
void AtomicFolder::commit() {
  try {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(staging_))
      sync_path(entry.path().string());
  } catch (const fs::filesystem_error& error) {
    throw system_failure("cannot read", staging_, error.code());
  }
  sync_path(staging_);
  stop_if_interrupted();  // the last moment at which nothing has happened
  if (replace_) {
    // What is replaced gets the staging name for a while: nobody may take it for half of what is new.
    journal_->clear();
    replace_folder(staging_, target_);
  } else {
    name_folder(staging_, target_);
  }
  journal_.reset();
  sync_path(fs::path(target_).parent_path().string());
}

void remove_leftovers(const std::string& target) {
  const std::string whole = whole_path(target);
  std::error_code ignored;
  if (!fs::exists(hidden(whole, "-journal"), ignored)) return;
  try {
    const std::unique_ptr<Journal> journal = make_journal(whole);
    if (journal->locked()) fs::remove_all(staging_name(whole, true), ignored);
  } catch (const Error&) {  // somebody is at work, or the folder cannot be written
  }
}

}  // namespace qtool
