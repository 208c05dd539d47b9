#include "core/interrupt.h"

#include <atomic>
#include <csignal>

#include "core/error.h"
#include "core/memory_reserve.h"

namespace qtool {
namespace {

std::atomic<int> raised{0};  // the signal that came
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");

void raise_flag(int signal) { raised.store(signal, std::memory_order_relaxed); }

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = raise_flag;
  sigemptyset(&action.sa_mask);
  action.sa_flags =
      static_cast<int>(SA_RESETHAND);  // the second signal finds the default action; reads get EINTR
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return raised.load(std::memory_order_relaxed) != 0; }

bool dismiss_interrupt() {
  int expected = SIGINT;
  if (!raised.compare_exchange_strong(expected, 0, std::memory_order_relaxed)) return false;
  catch_interrupts();  // the first signal has put the default action back
  return true;
}

void ignore_interrupts() {
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  raised.store(0, std::memory_order_relaxed);
}

void stop_if_interrupted() {
  if (interrupted()) throw Error(ExitCode::kInterrupted, "interrupted");
  if (memory_ran_out()) throw Error(ExitCode::kMemory, "out of memory");
}

}  // namespace qtool
