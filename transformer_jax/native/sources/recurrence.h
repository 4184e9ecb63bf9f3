// The steps of an LSTM on a CPU: one run's arrays and sizes, and the kernels that every variant of the code offers.

#ifndef TRANSFORMER_JAX_RECURRENCE_H_
#define TRANSFORMER_JAX_RECURRENCE_H_

#include <cstddef>
#include <cstdint>

namespace transformer_jax {

// Time-major arrays: [time, batch, ...]. Gates are in the order i, f, g, o, with the halves of their sigmoids in the
// weights, so that each is a tanh: see functional/recurrent/fused.py.
struct Run {
  int64_t time, batch, hidden;
  bool reverse;            // steps go from the last to the first
  const float* weight;     // [hidden, 4 * hidden]
  const uint8_t* valid;    // [time, batch]: a step that does not exist freezes the state and gives zeros; or null
  const uint8_t* resets;   // [time, batch]: before the step the state becomes zero; or null
  // Forward.
  const float* projected;  // [time, batch, 4 * hidden]
  const float* state;      // [batch, hidden], at the start
  const float* memory;
  float* outputs;          // [time, batch, hidden]
  float* last_state;       // [batch, hidden], at the end
  float* last_memory;
  float* memories;         // [time, batch, hidden], and the gates, for the backward pass; null: not kept
  float* gates;            // [time, batch, 4 * hidden]
  // Backward.
  const float* d_outputs;
  const float* d_last_state;
  const float* d_last_memory;
  const float* previous_memories;  // [time, batch, hidden]: those that each step started from
  const float* kept_memories;
  const float* kept_gates;
  float* d_gates;                  // [time, batch, 4 * hidden]
  float* d_state;                  // [batch, hidden], at the start
  float* d_memory;
};

struct RecurrenceKernels {
  size_t (*packed_bytes)(const Run&);
  size_t (*row_bytes)(const Run&, int64_t rows);
  void (*pack_forward)(const Run&, float* packed);
  void (*pack_backward)(const Run&, float* packed);
  // Rows [first, last) of the batch through all steps.
  void (*forward)(const Run&, const float* packed, int64_t first, int64_t last, char* room);
  void (*backward)(const Run&, const float* packed, int64_t first, int64_t last, char* room);
};

const RecurrenceKernels* avx512_recurrence();
const RecurrenceKernels* avx2_recurrence();
const RecurrenceKernels* plain_recurrence();

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_RECURRENCE_H_
