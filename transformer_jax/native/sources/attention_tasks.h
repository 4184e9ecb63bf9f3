// Running the kernels' tasks on several threads. Nothing here knows of XLA.

#ifndef TRANSFORMER_JAX_ATTENTION_TASKS_H_
#define TRANSFORMER_JAX_ATTENTION_TASKS_H_

#include <functional>

#include "attention.h"

namespace transformer_jax {

// Threads that may help the caller: `count` counts the caller, `schedule` lets another thread run a function some time.
struct Threads {
  int64_t count;
  std::function<void(std::function<void()>)> schedule;
};

// False: there was no memory for a task.
bool run_forward(const Call& call, const Threads& threads);
bool run_backward(const Call& call, const Threads& threads);

// The variant in use, and another one in its place; false where the processor or this library does not have it.
const Kernels* kernels_here();
bool use_variant(const char* name);

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_ATTENTION_TASKS_H_
