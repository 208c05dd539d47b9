// How qtool fails: one exception type that carries a sentence for people and an exit code for scripts.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace qtool {

// The program's exit codes; scripts rely on them, so numbers never change.
enum class ExitCode : int {
  kOk = 0,
  kInternal = 1,       // a bug in qtool
  kUsage = 2,          // wrong options or arguments
  kNotFound = 3,       // a model or file that is not there
  kMalformed = 4,      // a file that is damaged or contradicts itself
  kUnsupported = 5,    // an architecture or feature qtool does not know
  kMemory = 6,         // does not fit in memory, or over --budget
  kDevice = 7,         // GPU or driver
  kNetwork = 8,        // download or access rights of a remote model
  kVerification = 9,   // a check or threshold failed
  kIo = 10,            // reading or writing failed: disk full, permission
  kInterrupted = 130,  // Ctrl-C
};

// The word for a code in JSON errors: "usage", "malformed", ...
std::string_view kind_of(ExitCode code);

// A failure said in one sentence: what, where, what to do. `path` names the file concerned, if any.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, std::string path = {})
      : std::runtime_error(message), code_(code), path_(std::move(path)) {}

  ExitCode code() const { return code_; }
  const std::string& path() const { return path_; }

  // The same failure seen from one layer up: "<context>: <message>". Keeps the code; adopts `path` if none is
  // set.
  Error within(std::string_view context, const std::string& path = {}) const {
    return Error(code_, std::string(context) + ": " + what(), path_.empty() ? path : path_);
  }

 private:
  ExitCode code_;
  std::string path_;
};

// A sentence that must never be read: something qtool promised itself does not hold.
inline Error internal_error(const std::string& what) {
  return Error(ExitCode::kInternal, "internal error: " + what + "; please report this");
}

// `text` as it may be shown, whoever wrote it: control characters, invalid UTF-8 and the invisible characters
// that turn the reading direction or hide in a name are escaped (\n, \x1b, \u202e). Escaping twice changes
// nothing.
std::string escaped(std::string_view text);

}  // namespace qtool
