// How an action ends.
#pragma once

#include "core/error.h"

namespace qtool::test {

// The code of the Error that `action` throws, kOk without one.
template <typename Action>
ExitCode code_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kOk;
}

}  // namespace qtool::test
