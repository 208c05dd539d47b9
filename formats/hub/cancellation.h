// Ends the work of several threads together: raised by the first that fails, or by Ctrl-C.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "core/interrupt.h"

namespace qtool {

class Cancellation {
 public:
  void raise() { raised_.store(true, std::memory_order_relaxed); }
  bool raised() const { return raised_.load(std::memory_order_relaxed) || interrupted(); }
  void check() const {
    if (raised()) throw Error(ExitCode::kInterrupted, "interrupted");
  }
  // Errors: kInterrupted, soon after it was raised.
  void sleep(std::chrono::milliseconds time) const {
    constexpr std::chrono::milliseconds kPiece{50};
    for (; time.count() > 0; time -= kPiece) {
      check();
      std::this_thread::sleep_for(std::min(time, kPiece));
    }
    check();
  }

 private:
  std::atomic<bool> raised_{false};
};

}  // namespace qtool
