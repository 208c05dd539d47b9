// An output folder that appears whole or not at all, and that an interrupted writer's successor may go on
// with.
//
//   model                   the target: does not exist until commit()
//   .model.qtool            where it takes shape
//   .model.qtool-journal    locked by the writer; what of the above is finished
//
// One writer a target: a second one is told so at once. One that was killed leaves both hidden names behind,
// and the next one, who gets the lock, empties the folder or goes on with it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/journal.h"

namespace qtool {

// What becomes of what a killed writer of the same target has left.
enum class Leftovers { kDiscarded, kKept };

class AtomicFolder {
 public:
  // Errors: kIo when `target`'s parent cannot be written, kUsage when `target` exists and `replace` is false,
  // or when another process writes it.
  AtomicFolder(const std::string& target, bool replace, Leftovers leftovers = Leftovers::kDiscarded);
  AtomicFolder(const AtomicFolder&) = delete;
  ~AtomicFolder();  // removes what was not committed, unless suspend() was called

  const std::string& target() const { return target_; }
  std::string path_of(const std::string& name) const;             // where to write file `name` meanwhile
  void write(const std::string& name, std::string_view content);  // a small file, synced
  void commit();  // errors: kIo; kUsage when `target` has come to exist; kInterrupted

  // Whether a killed writer's files were removed.
  bool discarded() const { return discarded_; }
  // What a killed writer had noted, in order; empty unless leftovers are kept and there are some.
  const std::vector<std::string>& notes() const { return journal_->found(); }
  // Removes all files but those named, and, where none is, the notes. Errors: kIo.
  void keep_only(const std::set<std::string>& names);
  // Adds a line for a successor. With kYes it is on the disk when this returns, and so must be what it speaks
  // of. Thread-safe. Errors: kIo.
  void note(std::string_view line, Journal::Sync sync) { journal_->append(line, sync); }
  // What was noted no longer holds. Errors: kIo.
  void forget() { journal_->clear(); }
  // Leaves files and notes to a successor.
  void suspend();

 private:
  void check_target() const;

  std::string target_;
  bool replace_ = false;
  std::unique_ptr<Journal> journal_;  // until the target has its name
  std::string staging_;
  bool discarded_ = false;
  bool suspended_ = false;
};

// Removes what a killed writer of a target that exists has left; nothing while one is at work.
void remove_leftovers(const std::string& target);

}  // namespace qtool
