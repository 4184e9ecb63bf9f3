// Attention, forward and backward, on several threads. Nothing here knows of XLA.

#ifndef TRANSFORMER_JAX_ATTENTION_TASKS_H_
#define TRANSFORMER_JAX_ATTENTION_TASKS_H_

#include "attention.h"

namespace transformer_jax {

// False: there was no memory for a task.
bool run_forward(const Call& call, const Threads& threads);
bool run_backward(const Call& call, const Threads& threads);

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_ATTENTION_TASKS_H_
