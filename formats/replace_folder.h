// The last step of AtomicFolder: a finished folder takes the name of another.
#pragma once

#include <string>

namespace qtool {

enum class Exchange { kAtomic, kByRenames };

// Gives folder `made` the name `target`, where something may exist already. What was there stays whole under
// a hidden name until the new folder is in place, and is removed then. kAtomic swaps the two names in one
// system call where the file system can do that and falls back to renames; kByRenames leaves an instant in
// which `target` names nothing. Errors: kIo; then `target` is what it was.
void replace_folder(const std::string& made, const std::string& target, Exchange how = Exchange::kAtomic);

// The same where nothing may exist. Errors: kUsage when something does.
void name_folder(const std::string& made, const std::string& target);

// Brings a file's content or a folder's entries onto the disk. Errors: kIo.
void sync_path(const std::string& path);

}  // namespace qtool
