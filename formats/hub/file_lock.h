// A lock between processes, the way huggingface_hub's filelock does it on Unix: flock(2), exclusive, on a
// file that stays. Whoever takes it this way excludes the others, whatever program they are.
#pragma once

#include <functional>
#include <string>

#include "formats/hub/cancellation.h"

namespace qtool {

class FileLock {
 public:
  // Makes `path` if need be and waits for its lock; `waiting` is called once if that takes more than a
  // moment. Errors: kIo, kInterrupted.
  FileLock(const std::string& path, const Cancellation& cancellation, const std::function<void()>& waiting);
  FileLock(const FileLock&) = delete;
  ~FileLock();

  // False where the file system knows no locks: then another process may be doing the same.
  bool exclusive() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

}  // namespace qtool
