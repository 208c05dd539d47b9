#include "formats/hub/connections.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

namespace qtool {
namespace {

constexpr std::size_t kMostThreads = 8;  // as huggingface_hub

}  // namespace

void HubConnections::with_session(const std::function<void(HttpSession&)>& work) {
  std::unique_ptr<HttpSession> session;
  {
    const std::scoped_lock lock(mutex_);
    if (!idle_.empty()) {
      session = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!session) session = std::make_unique<HttpSession>(settings_, cancellation_);
  work(*session);
  const std::scoped_lock lock(mutex_);
  idle_.push_back(std::move(session));
}

void HubConnections::for_each(std::size_t count, const std::function<void(std::size_t, HttpSession&)>& work) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr first;
  std::mutex first_mutex;
  const auto run = [&] {
    try {
      with_session([&](HttpSession& session) {
        for (std::size_t i = next++; i < count; i = next++) work(i, session);
      });
    } catch (...) {
      const std::scoped_lock lock(first_mutex);
      if (!first) first = std::current_exception();
      cancellation_.raise();
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 1; i < std::min(count, kMostThreads); ++i) threads.emplace_back(run);
  if (count > 0) run();
  threads.clear();  // joins
  if (first) std::rethrow_exception(first);
}

}  // namespace qtool
