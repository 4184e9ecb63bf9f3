#include "tasks.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

namespace transformer_jax {

Arena::~Arena() { std::free(data_); }

bool Arena::reserve(size_t bytes) {
  bytes = (bytes + 4095) / 4096 * 4096;
  if (bytes > size_) {
    std::free(data_);
    data_ = static_cast<char*>(std::aligned_alloc(64, bytes));
    size_ = data_ == nullptr ? 0 : bytes;
  }
  used_ = 0;
  return data_ != nullptr;
}

void* Arena::take(size_t bytes) {
  const size_t rounded = (bytes + 63) / 64 * 64;
  if (used_ + rounded > size_) return nullptr;
  void* result = data_ + used_;
  used_ += rounded;
  return result;
}

namespace {

// What the threads of one call share. It outlives the call: a thread may come when everything is done, and finds nothing.
struct Work {
  std::atomic<int64_t> next{0}, done{0};
  std::atomic<bool> failed{false};
  int64_t count = 0;
  size_t bytes = 0;
  std::function<bool(int64_t, Arena&)> task;

  void run() {
    static thread_local Arena arena;
    for (int64_t which = next.fetch_add(1); which < count; which = next.fetch_add(1)) {
      if (!arena.reserve(bytes) || !task(which, arena)) failed.store(true);
      done.fetch_add(1, std::memory_order_acq_rel);
    }
  }
};

}  // namespace

bool run_tasks(
    int64_t count, size_t bytes, bool is_small, const Threads& threads, std::function<bool(int64_t, Arena&)> task) {
  auto work = std::make_shared<Work>();
  work->count = count;
  work->bytes = bytes;
  work->task = std::move(task);
  const int64_t helpers = is_small ? 0 : std::min<int64_t>(threads.count, count) - 1;
  for (int64_t helper = 0; helper < helpers; ++helper) threads.schedule([work] { work->run(); });
  work->run();
  // A task that was begun is being done by a running thread, so this ends.
  while (work->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
  return !work->failed.load();
}

}  // namespace transformer_jax
