// Notes of a long piece of work that must survive a kill or a power cut, in a file that tells whether the one
// who writes them lives: it is locked as long as he does, and the system unlocks it whatever ends him.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace qtool {

class Journal {
 public:
  // Takes the lock of the file, which is made if need be. Errors: kUsage when another process holds it, with
  // `busy` as the sentence; kIo.
  Journal(const std::string& path, const std::string& busy);
  Journal(const Journal&) = delete;
  ~Journal();  // removes the file, unless keep() was called

  // Whether the file system has locks; a journal that could not be locked has no file and keeps nothing.
  bool locked() const { return descriptor_ >= 0; }
  // The whole lines that were found: none unless this user wrote them.
  const std::vector<std::string>& found() const { return found_; }

  void clear();  // forgets everything, on the disk too. Errors: kIo
  // Adds a line, which holds no line break. A synced one, and all before it, is on the disk when this
  // returns. Thread-safe. Errors: kIo.
  enum class Sync { kNo, kYes };
  void append(std::string_view line, Sync sync);
  void keep() { kept_ = true; }

 private:
  void read_lines();

  std::string path_;
  int descriptor_ = -1;
  bool kept_ = false;
  std::vector<std::string> found_;
  std::mutex mutex_;  // of appends
};

}  // namespace qtool
