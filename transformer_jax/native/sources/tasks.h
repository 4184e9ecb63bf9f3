// Tasks on several threads, and each thread's memory. Nothing here knows of XLA.

#ifndef TRANSFORMER_JAX_TASKS_H_
#define TRANSFORMER_JAX_TASKS_H_

#include <cstddef>
#include <cstdint>
#include <functional>

namespace transformer_jax {

// Memory of one thread, kept between calls: `take` gives aligned room, null when there is none.
class Arena {
 public:
  ~Arena();
  bool reserve(size_t bytes);
  void reset() { used_ = 0; }
  void* take(size_t bytes);

 private:
  char* data_ = nullptr;
  size_t size_ = 0, used_ = 0;
};

// Threads that may help the caller: `count` counts the caller, `schedule` lets another thread run a function some time.
struct Threads {
  int64_t count;
  std::function<void(std::function<void()>)> schedule;
};

// Runs task(0) to task(count - 1), each with `bytes` of its thread's memory; begins them in their order. False: one
// failed, or there was no memory. With `is_small` the caller does all.
bool run_tasks(
    int64_t count, size_t bytes, bool is_small, const Threads& threads, std::function<bool(int64_t, Arena&)> task);

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_TASKS_H_
