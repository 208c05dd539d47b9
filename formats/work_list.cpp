#include "formats/work_list.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/interrupt.h"

namespace qtool {
namespace {

std::int64_t chunk_elements(const WorkItem& item) {
  if (item.row <= 1) return kChunkElements;
  return std::max<std::int64_t>(1, kChunkElements / item.row) * item.row;
}

std::string mb(std::int64_t bytes) { return std::to_string((bytes + 999'999) / 1'000'000) + " MB"; }

}  // namespace

WorkList make_work_list(const std::vector<WorkItem>& items, const std::vector<std::size_t>& order,
                        int threads, std::int64_t max_bytes) {
  WorkList list;
  list.chunks_of.resize(items.size());
  std::int64_t largest_chunk = 0;
  std::vector<std::int64_t> held;
  for (const std::size_t i : order) {
    const WorkItem& item = items[i];
    const std::int64_t step = chunk_elements(item);
    std::int64_t begin = 0;
    do {  // an empty tensor is one empty chunk: its statistics are to be written all the same
      const std::int64_t count = std::min(step, item.elements - begin);
      list.chunks.push_back({i, begin, count, list.chunks_of[i]++});
      largest_chunk = std::max(largest_chunk, count * item.bytes_per_element);
      begin += count;
    } while (begin < item.elements);
    held.push_back(item.bytes_held);
  }

  std::sort(held.begin(), held.end(), std::greater<>());
  const auto memory_of = [&](int count) {
    std::int64_t bytes = count * largest_chunk;
    for (std::size_t i = 0; i < std::min(held.size(), static_cast<std::size_t>(count)); ++i) bytes += held[i];
    return bytes;
  };
  list.threads = std::clamp(threads, 1, static_cast<int>(std::max<std::size_t>(1, list.chunks.size())));
  while (list.threads > 1 && memory_of(list.threads) > max_bytes) --list.threads;
  list.memory_bytes = memory_of(list.threads);
  if (list.memory_bytes > max_bytes) {
    throw Error(ExitCode::kMemory, "one thread needs " + mb(list.memory_bytes) +
                                       " of buffers, more than the " + mb(max_bytes) +
                                       " of --max-ram: raise --max-ram");
  }
  return list;
}

void run(const WorkList& list, const std::function<void(const Chunk&, std::size_t thread)>& work,
         const std::function<void()>& give_up) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto worker = [&](std::size_t thread) {
    try {
      for (;;) {
        const std::size_t index = next.fetch_add(1);
        if (index >= list.chunks.size()) return;
        stop_if_interrupted();
        work(list.chunks[index], thread);
      }
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();  // later ones are consequences of the first
      }
      next = list.chunks.size();
      if (give_up) give_up();
    }
  };

  std::vector<std::jthread> others;
  for (int thread = 1; thread < list.threads; ++thread)
    others.emplace_back(worker, static_cast<std::size_t>(thread));
  worker(0);
  others.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qtool
