// Independent pieces of work on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace qtool {

// work(i) for every i below `count`, in any order; the first exception stops the rest and is thrown here.
template <typename Work>
void for_each_index(std::size_t count, int threads, const Work& work) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  const auto take = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        next = count;
        const std::scoped_lock lock(failure_lock);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> others;
    const std::size_t wanted = std::min<std::size_t>(count, static_cast<std::size_t>(std::max(threads, 1)));
    try {
      for (std::size_t t = 1; t < wanted; ++t) others.emplace_back(take);
    } catch (const std::exception&) {  // no more threads to be had: those there are do all the work
    }
    take();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qtool
