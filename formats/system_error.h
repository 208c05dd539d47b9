// An error of the system or of the standard library's file functions as one of ours.
#pragma once

#include <string>
#include <system_error>

#include "core/error.h"

namespace qtool {

// "cannot list 'x': Permission denied", for `what` "cannot list". kMemory where it was memory that the call
// lacked (opening a folder allocates), else kIo.
inline Error system_failure(const std::string& what, const std::string& path, const std::error_code& why) {
  const bool memory = why == std::errc::not_enough_memory;
  return Error(memory ? ExitCode::kMemory : ExitCode::kIo,
               what + " '" + escaped(path) + "': " + why.message(), path);
}

}  // namespace qtool
