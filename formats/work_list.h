// The work of a streaming conversion, cut into chunks of bounded size, and the threads that do it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace qtool {

// Elements of a chunk: small enough that values and codes stay in a core's cache between reading, quantizing
// and writing; a multiple of every block size times the nested block size, so that no block of either kind is
// cut.
inline constexpr std::int64_t kChunkElements = std::int64_t{1} << 20;

// A tensor as work: what must be known of it to cut it up and to foresee its memory.
struct WorkItem {
  std::int64_t elements = 0;
  std::int64_t row = 1;  // a chunk holds whole rows of so many elements (1: any number of elements)
  std::int64_t bytes_per_element = 0;  // buffers that a thread needs for a chunk, rounded up
  std::int64_t bytes_held = 0;         // from the tensor's first chunk to its last: statistics
};

// Elements [begin, begin + count) of item `item`.
struct Chunk {
  std::size_t item = 0;
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::size_t number = 0;  // within its item
};

struct WorkList {
  std::vector<Chunk> chunks;           // items in the order given, each cut up in order; at least one an item
  std::vector<std::size_t> chunks_of;  // of item i, how many
  int threads = 1;                     // as many as the memory allows
  std::int64_t memory_bytes = 0;       // bound on what those threads add to the process
};

// `order` lists the items. Fewer threads than asked for where the process would grow beyond `max_bytes`
// or what the machine and its control group have left: chunks are taken in order, so at any time a thread
// holds one chunk and at most as many items as threads are in flight. Errors: kMemory, with the least that
// works, when it would with a single thread.
WorkList make_work_list(const std::vector<WorkItem>& items, const std::vector<std::size_t>& order,
                        int threads, std::int64_t max_bytes);

// Calls work(chunk, thread) for every chunk, taking them in order on list.threads threads. On the first
// failure calls `give_up` (to wake threads that wait for the failed one's work), lets all threads end and
// rethrows it. Stops with kInterrupted on Ctrl-C.
void run(const WorkList& list, const std::function<void(const Chunk&, std::size_t thread)>& work,
         const std::function<void()>& give_up = {});

}  // namespace qtool
