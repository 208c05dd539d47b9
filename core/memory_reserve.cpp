#include "core/memory_reserve.h"

#include <atomic>
#include <cstdlib>
#include <execinfo.h>
#include <new>

namespace qtool {
namespace {

constexpr std::size_t kReserveBytes = std::size_t{1}
                                      << 20;  // never touched: address space, until it is given back

std::atomic<void*> reserve{nullptr};
std::atomic<bool> needed{false};

// What operator new calls before it tries again.
void spend_reserve() {
  needed = true;
  void* const memory = reserve.exchange(nullptr);
  if (memory == nullptr) throw std::bad_alloc();
  std::free(memory);
}

}  // namespace

void reserve_memory() {
  // The C library looks for the unwinder when it first needs it, which takes memory; a thread that ends
  // without any would abort the process.
  void* frame = nullptr;
  static_cast<void>(backtrace(&frame, 1));
  reserve = std::malloc(kReserveBytes);
  std::set_new_handler(spend_reserve);
}

bool memory_ran_out() { return needed.load(std::memory_order_relaxed); }

}  // namespace qtool
