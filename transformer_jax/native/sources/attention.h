// Attention on a CPU: one call's arrays and sizes, and the two kernels that every variant of the code offers.
//
// Queries, keys and values are read where they lie, [rows, length, heads, width]. See attention_kernels.cpp.

#ifndef TRANSFORMER_JAX_ATTENTION_H_
#define TRANSFORMER_JAX_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "tasks.h"

namespace transformer_jax {

// An array of some rows: as many as the batch has, or one that all share. Null where a call has none.
template <typename T>
struct Rows {
  const T* data = nullptr;
  int64_t rows = 0;
  int64_t width = 0;  // elements of one row

  // The row's elements; `outer` counts the maps of jax.vmap around the batch.
  const T* of(int64_t outer, int64_t row) const {
    return data == nullptr ? nullptr : data + (outer * rows + (rows == 1 ? 0 : row)) * width;
  }
};

struct Call {
  int64_t outer, batch, q_len, kv_len, heads, kv_heads, head_dim, value_dim;
  const float* query;
  const float* key;
  const float* value;
  float scale;
  // The mask. Positions that are not given count from zero.
  bool has_left, has_right;
  int32_t left, right;
  Rows<int32_t> lengths, query_positions, key_positions;
  int64_t num_segment_pairs;
  Rows<int32_t> query_segments, key_segments;  // a row holds all pairs, one after the other
  Rows<uint8_t> valid;
  Rows<uint8_t> dense;  // a row holds [dense_heads, q_len, kv_len]
  int64_t dense_heads;
  bool positions_may_wrap;  // some are so large that differences leave 32 bits
  // ALiBi: one slope a head.
  Rows<float> slopes;
  // Dropout: two words a row of weights, [rows, heads, q_len, 2]; a weight is kept if its hash reaches the threshold.
  Rows<uint32_t> dropout_keys;
  uint32_t dropout_threshold;
  float keep_scale;  // 1 / (1 - rate)
  // The results of the forward pass.
  float* output;      // [rows, q_len, heads, value_dim]
  float* logsumexp;   // [rows, heads, q_len]; -inf: the row sees no key, NaN: it sees a key that is not finite
  // The backward pass: what comes in, and the gradients.
  const float* d_output;
  float* d_query;
  float* d_key;
  float* d_value;
  float* d_slopes;  // [rows, heads, q_len]: what each row of weights adds to its head's slope; null without slopes
};

class Turns;

// One compiled form of the kernels. Tasks are independent of each other, but for the sums that `Turns` orders.
struct Kernels {
  int64_t (*forward_tasks)(const Call&);
  size_t (*forward_bytes)(const Call&);
  bool (*forward)(const Call&, int64_t task, Arena&);
  int64_t (*backward_tasks)(const Call&);
  size_t (*backward_bytes)(const Call&);
  int64_t (*backward_turns)(const Call&);  // how many counters the tasks share; 0 where each writes alone
  bool (*backward)(const Call&, int64_t task, Arena&, Turns*);
};

const Kernels* avx512_attention();
const Kernels* avx2_attention();
const Kernels* plain_attention();

// Counters by which tasks add to the same numbers in a fixed order, so that sums do not depend on the threads.
class Turns {
 public:
  explicit Turns(int64_t count);
  ~Turns();
  bool ok() const { return counters_ != nullptr && abandoned_ != nullptr; }
  void wait(int64_t which, int32_t turn);
  void pass(int64_t which);
  void abandon();  // a task failed, and its turns will not come: nobody waits any more

 private:
  void* counters_;
  void* abandoned_;
};

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_ATTENTION_H_
