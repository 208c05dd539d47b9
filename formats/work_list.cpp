#include "formats/work_list.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/machine.h"

namespace qtool {
namespace {

std::int64_t chunk_elements(const WorkItem& item) {
  if (item.row <= 1) return kChunkElements;
  return std::max<std::int64_t>(1, kChunkElements / item.row) * item.row;
}

// What a thread costs besides its chunk: stack, allocator, file system calls.
constexpr std::int64_t kThreadBytes = 1'000'000;

std::int64_t megabytes(std::int64_t bytes) { return (bytes + 999'999) / 1'000'000; }
std::string mb(std::int64_t bytes) { return std::to_string(megabytes(bytes)) + " MB"; }

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
    std::int64_t bytes = count * (largest_chunk + kThreadBytes);
    for (std::size_t i = 0; i < std::min(held.size(), static_cast<std::size_t>(count)); ++i) bytes += held[i];
    return bytes;
  };
  const std::int64_t resident = resident_memory();
  const std::int64_t left = std::min(max_bytes - resident, available_memory());
  list.threads = std::clamp(threads, 1, static_cast<int>(std::max<std::size_t>(1, list.chunks.size())));
  while (list.threads > 1 && memory_of(list.threads) > left) --list.threads;
  list.memory_bytes = memory_of(list.threads);
  if (list.memory_bytes > max_bytes - resident) {
    // A little more, because the next run may begin with some pages more.
    throw Error(ExitCode::kMemory, "--max-ram of " + mb(max_bytes) + " is too little: the program has " +
                                       mb(resident) + " and one thread needs " + mb(list.memory_bytes) +
                                       " of buffers; the least that works is --max-ram " +
                                       std::to_string(megabytes(resident + list.memory_bytes) + 2) + "MB");
  }
  if (list.memory_bytes > left)
    throw Error(ExitCode::kMemory,
                "one thread needs " + mb(list.memory_bytes) + " of buffers, but only " + mb(left) +
                    " of memory are free: end other programs or raise the limit of " + "the control group");
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
  try {
    for (int thread = 1; thread < list.threads; ++thread)
      others.emplace_back(worker, static_cast<std::size_t>(thread));
  } catch (const std::exception&) {  // no more threads, or memory for them: those there are do all the work
  }
  worker(0);
  others.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qtool
