// Memory, turns and threads of the kernels, and the choice of a variant for the processor.

#include "attention_tasks.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

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

std::atomic<const Kernels*> chosen_variant{nullptr};

}  // namespace

const Kernels* variant_named(const char* name) {
#if defined(TJ_WITH_AVX512)
  if (std::strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return avx512_kernels();
#endif
#if defined(TJ_WITH_AVX2)
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return avx2_kernels();
#endif
  return std::strcmp(name, "plain") == 0 ? plain_kernels() : nullptr;
}

const Kernels* kernels_here() {
  const Kernels* kernels = chosen_variant.load(std::memory_order_acquire);
  if (kernels != nullptr) return kernels;
  for (const char* name : {"avx512", "avx2", "plain"}) {
    kernels = variant_named(name);
    if (kernels != nullptr) break;
  }
  chosen_variant.store(kernels, std::memory_order_release);
  return kernels;
}

bool use_variant(const char* name) {
  const Kernels* kernels = variant_named(name);
  if (kernels != nullptr) chosen_variant.store(kernels, std::memory_order_release);
  return kernels != nullptr;
}

namespace {

// What the threads of one call share. It outlives the call: a thread may come when everything is done.
struct Work {
  std::atomic<int64_t> next{0}, done{0};
  std::atomic<bool> failed{false};
  int64_t count = 0;
  size_t bytes = 0;
  const Call* call = nullptr;  // only read by who has taken a task
  Turns* turns = nullptr;
  const Kernels* kernels = nullptr;
  bool is_backward = false;

  void run() {
    static thread_local Arena arena;
    for (int64_t task = next.fetch_add(1); task < count; task = next.fetch_add(1)) {
      bool is_done = false;
      if (arena.reserve(bytes)) {
        is_done = is_backward ? kernels->backward(*call, task, arena, turns) : kernels->forward(*call, task, arena);
      }
      if (!is_done) {
        failed.store(true);
        if (turns != nullptr) turns->abandon();
      }
      done.fetch_add(1, std::memory_order_acq_rel);
    }
  }
};

constexpr double SERIAL_WORK = 4e6;  // multiplications that do not pay for a second thread

bool run_tasks(const Call& call, bool is_backward, Turns* turns, const Threads& threads) {
  const Kernels* kernels = kernels_here();
  auto work = std::make_shared<Work>();
  work->count = is_backward ? kernels->backward_tasks(call) : kernels->forward_tasks(call);
  work->bytes = is_backward ? kernels->backward_bytes(call) : kernels->forward_bytes(call);
  work->call = &call;
  work->turns = turns;
  work->kernels = kernels;
  work->is_backward = is_backward;
  const double pairs = double(call.outer) * call.batch * call.heads * call.q_len * call.kv_len;
  int64_t helpers = 0;
  if (pairs * (call.head_dim + call.value_dim) > SERIAL_WORK)
    helpers = std::min<int64_t>(threads.count - 1, work->count - 1);
  for (int64_t helper = 0; helper < helpers; ++helper) threads.schedule([work] { work->run(); });
  work->run();
  // A task that was taken is being done by a running thread, so this ends; helpers that never came find nothing.
  while (work->done.load(std::memory_order_acquire) < work->count) std::this_thread::yield();
  return !work->failed.load();
}

}  // namespace

bool run_forward(const Call& call, const Threads& threads) { return run_tasks(call, false, nullptr, threads); }

bool run_backward(const Call& call, const Threads& threads) {
  const int64_t count = kernels_here()->backward_turns(call);
  if (count == 0) return run_tasks(call, true, nullptr, threads);
  Turns turns(count);
  if (!turns.ok()) return false;
  const int64_t weights = call.outer * call.batch * call.heads * call.q_len;
  std::memset(call.d_query, 0, weights * call.head_dim * sizeof(float));
  if (call.d_slopes != nullptr) std::memset(call.d_slopes, 0, weights * sizeof(float));
  return run_tasks(call, true, &turns, threads);
}

}  // namespace transformer_jax
