#include "core/cpu/threads.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace qtool {

int start_threads(int wanted) {
  int started = 1;  // this one
  {
    std::mutex mutex;
    std::condition_variable counted;
    bool over = false;
    std::vector<std::jthread> others;
    const auto wait = [&] {
      std::unique_lock lock(mutex);
      counted.wait(lock, [&] { return over; });
    };
    try {
      for (; started < wanted; ++started) others.emplace_back(wait);
    } catch (const std::exception&) {  // so many there are
    }
    {
      const std::lock_guard lock(mutex);
      over = true;
    }
    counted.notify_all();
  }
  std::atomic<int> present{0};  // OpenMP may have limits of its own
#pragma omp parallel num_threads(started)
  ++present;
  return present;
}

}  // namespace qtool
