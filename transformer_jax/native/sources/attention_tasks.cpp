// The tasks of a call of attention, and the turns that their sums take.

#include "attention_tasks.h"

#include <atomic>
#include <cstring>
#include <new>
#include <thread>

#include "variants.h"

namespace transformer_jax {

Turns::Turns(int64_t count) {
  auto* counters = new (std::nothrow) std::atomic<int32_t>[count];
  for (int64_t which = 0; counters != nullptr && which < count; ++which)
    counters[which].store(0, std::memory_order_relaxed);
  counters_ = counters;
  abandoned_ = new (std::nothrow) std::atomic<bool>(false);
}

Turns::~Turns() {
  delete[] static_cast<std::atomic<int32_t>*>(counters_);
  delete static_cast<std::atomic<bool>*>(abandoned_);
}

void Turns::wait(int64_t which, int32_t turn) {
  auto& counter = static_cast<std::atomic<int32_t>*>(counters_)[which];
  auto& abandoned = *static_cast<std::atomic<bool>*>(abandoned_);
  for (int spins = 0; counter.load(std::memory_order_acquire) != turn && !abandoned.load(); ++spins) {
    if (spins > 64) std::this_thread::yield();
  }
}

void Turns::pass(int64_t which) {
  static_cast<std::atomic<int32_t>*>(counters_)[which].fetch_add(1, std::memory_order_release);
}

void Turns::abandon() { static_cast<std::atomic<bool>*>(abandoned_)->store(true); }

namespace {

constexpr double SERIAL_WORK = 4e6;  // multiplications that do not pay for a second thread

bool is_small(const Call& call) {
  const double pairs = double(call.outer) * call.batch * call.heads * call.q_len * call.kv_len;
  return pairs * (call.head_dim + call.value_dim) <= SERIAL_WORK;
}

}  // namespace

bool run_forward(const Call& call, const Threads& threads) {
  const Kernels* kernels = variant_here()->attention;
  return run_tasks(
      kernels->forward_tasks(call), kernels->forward_bytes(call), is_small(call), threads,
      [&call, kernels](int64_t task, Arena& arena) { return kernels->forward(call, task, arena); });
}

bool run_backward(const Call& call, const Threads& threads) {
  const Kernels* kernels = variant_here()->attention;
  const int64_t count = kernels->backward_turns(call);
  Turns turns(count == 0 ? 1 : count);
  if (!turns.ok()) return false;
  if (count > 0) {
    const int64_t weights = call.outer * call.batch * call.heads * call.q_len;
    std::memset(call.d_query, 0, weights * call.head_dim * sizeof(float));
    if (call.d_slopes != nullptr) std::memset(call.d_slopes, 0, weights * sizeof(float));
  }
  return run_tasks(
      kernels->backward_tasks(call), kernels->backward_bytes(call), is_small(call), threads,
      [&call, &turns, kernels](int64_t task, Arena& arena) {
        const bool is_done = kernels->backward(call, task, arena, &turns);
        if (!is_done) turns.abandon();
        return is_done;
      });
}

}  // namespace transformer_jax
