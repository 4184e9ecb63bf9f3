// All steps of an LSTM for some rows of the batch, for one kind of vector unit; compiled once for each.
//
// The recurrent weight is packed once: forward a vector of units with its four gates side by side, so that a tile of rows
// ends in registers as gates and goes on as state and memory without a pass through memory; backward two vectors of units.
// Rows do not know each other: threads take rows, not units, and need not wait for each other at any step.

#include "recurrence.h"

#include <cstring>

#include "vectors.h"

namespace transformer_jax {
namespace {

constexpr int FORWARD_ROWS = W == 16 ? 6 : 3;   // of a tile of rows by four gates
constexpr int BACKWARD_ROWS = W == 16 ? 8 : 4;  // of a tile of rows by two vectors of units

int64_t unit_blocks(const Run& run) { return over(run.hidden, W); }
int64_t unit_pairs(const Run& run) { return over(run.hidden, 2 * W); }

size_t packed_bytes(const Run& run) {
  const int64_t forward = unit_blocks(run) * run.hidden * 4 * W, backward = unit_pairs(run) * 4 * run.hidden * 2 * W;
  return sizeof(float) * static_cast<size_t>(most(forward, backward));
}

// [block of W units][hidden][gate][W]
void pack_forward(const Run& run, float* packed) {
  const int64_t hidden = run.hidden;
  for (int64_t block = 0; block < unit_blocks(run); ++block) {
    const int64_t first = block * W, count = least(W, hidden - first);
    for (int64_t k = 0; k < hidden; ++k) {
      for (int gate = 0; gate < 4; ++gate, packed += W) {
        const float* from = run.weight + k * 4 * hidden + gate * hidden + first;
        for (int64_t at = 0; at < W; ++at) packed[at] = at < count ? from[at] : 0.0f;
      }
    }
  }
}

// The transposed weight: [pair of vectors of units][4 * hidden][2 * W]
void pack_backward(const Run& run, float* packed) {
  const int64_t hidden = run.hidden;
  for (int64_t pair = 0; pair < unit_pairs(run); ++pair) {
    const int64_t first = pair * 2 * W, count = least(2 * W, hidden - first);
    for (int64_t at = 0; at < 2 * W; ++at) {
      const float* from = run.weight + (first + at) * 4 * hidden;
      for (int64_t gate = 0; gate < 4 * hidden; ++gate) packed[gate * 2 * W + at] = at < count ? from[gate] : 0.0f;
    }
    packed += 4 * hidden * 2 * W;
  }
}

INLINE Vector load_some(const float* from, int64_t count) {
  if (count >= W) return load(from);
  Vector values = splat(0.0f);
  for (int64_t at = 0; at < count; ++at) values[at] = from[at];
  return values;
}

INLINE void store_some(float* to, Vector values, int64_t count) {
  if (count >= W) {
    store(to, values);
  } else {
    for (int64_t at = 0; at < count; ++at) to[at] = values[at];
  }
}

// ROWS rows of the batch through one step, for one vector of units.
template <int ROWS>
INLINE void forward_tile(
    const Run& run, const float* packed, int64_t step, int64_t row, int64_t unit, const float* states, float* next,
    float* memory, int64_t first) {
  const int64_t hidden = run.hidden;
  Vector gates[ROWS][4];
#pragma GCC unroll 6
  for (int one = 0; one < ROWS; ++one)
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; ++gate) gates[one][gate] = splat(0.0f);
  const float* state = states + (row - first) * hidden;
  for (int64_t k = 0; k < hidden; ++k, packed += 4 * W) {
    Vector weights[4];
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; ++gate) weights[gate] = load(packed + gate * W);
#pragma GCC unroll 6
    for (int one = 0; one < ROWS; ++one) {
      const Vector value = splat(state[one * hidden + k]);
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) gates[one][gate] += value * weights[gate];
    }
  }
  const int64_t count = least(W, hidden - unit);
#pragma GCC unroll 6
  for (int one = 0; one < ROWS; ++one) {
    const int64_t place = step * run.batch + row + one;
    const float* projected = run.projected + place * 4 * hidden + unit;
    float* own_memory = memory + (row + one - first) * hidden + unit;
    float* own_next = next + (row + one - first) * hidden + unit;
    if (run.valid != nullptr && !run.valid[place]) {
      const float* own_state = states + (row + one - first) * hidden + unit;
      store_some(own_next, load_some(own_state, count), count);
      store_some(run.outputs + place * hidden + unit, splat(0.0f), count);
      if (run.memories != nullptr) {
        store_some(run.memories + place * hidden + unit, load_some(own_memory, count), count);
        for (int gate = 0; gate < 4; ++gate)
          store_some(run.gates + place * 4 * hidden + gate * hidden + unit, splat(0.0f), count);
      }
      continue;
    }
    Vector activated[4];
#pragma GCC unroll 4
    for (int gate = 0; gate < 4; ++gate) {
      activated[gate] = tanh_of(gates[one][gate] + load_some(projected + gate * hidden, count));
      if (run.gates != nullptr)
        store_some(run.gates + place * 4 * hidden + gate * hidden + unit, activated[gate], count);
    }
    const Vector half = splat(0.5f), full = splat(1.0f);
    const Vector held = (activated[1] + full) * load_some(own_memory, count);
    const Vector new_memory = half * (held + (activated[0] + full) * activated[2]);
    const Vector new_state = half * (activated[3] + full) * tanh_of(new_memory);
    store_some(own_memory, new_memory, count);
    store_some(own_next, new_state, count);
    store_some(run.outputs + place * hidden + unit, new_state, count);
    if (run.memories != nullptr) store_some(run.memories + place * hidden + unit, new_memory, count);
  }
}

template <int ROWS>
void forward_rest(
    const Run& run, const float* packed, int64_t step, int64_t row, int64_t unit, const float* states, float* next,
    float* memory, int64_t first, int64_t rows) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) {
      forward_tile<ROWS>(run, packed, step, row, unit, states, next, memory, first);
    } else {
      forward_rest<ROWS - 1>(run, packed, step, row, unit, states, next, memory, first, rows);
    }
  }
}

size_t row_bytes(const Run& run, int64_t rows) { return sizeof(float) * static_cast<size_t>(3 * rows * run.hidden); }

void forward(const Run& run, const float* packed, int64_t first, int64_t last, char* room) {
  const int64_t hidden = run.hidden, rows = last - first;
  float* states = reinterpret_cast<float*>(room);
  float* next = states + rows * hidden;
  float* memory = next + rows * hidden;
  const size_t bytes = rows * hidden * sizeof(float);
  std::memcpy(states, run.state + first * hidden, bytes);
  std::memcpy(memory, run.memory + first * hidden, bytes);
  const int64_t tiles = over(rows, FORWARD_ROWS);
  for (int64_t count = 0; count < run.time; ++count) {
    const int64_t step = run.reverse ? run.time - 1 - count : count;
    if (run.resets != nullptr) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t place = step * run.batch + row;
        if (!run.resets[place] || (run.valid != nullptr && !run.valid[place])) continue;
        std::memset(states + (row - first) * hidden, 0, hidden * sizeof(float));
        std::memset(memory + (row - first) * hidden, 0, hidden * sizeof(float));
      }
    }
    for (int64_t block = 0; block < unit_blocks(run); ++block) {
      const float* own = packed + block * hidden * 4 * W;
      for (int64_t tile = 0; tile < tiles; ++tile) {  // of sizes that differ by one at most
        const int64_t row = first + tile * rows / tiles, end = first + (tile + 1) * rows / tiles;
        forward_rest<FORWARD_ROWS>(run, own, step, row, block * W, states, next, memory, first, end - row);
      }
    }
    float* swapped = states;
    states = next;
    next = swapped;
  }
  std::memcpy(run.last_state + first * hidden, states, bytes);
  std::memcpy(run.last_memory + first * hidden, memory, bytes);
}

// What the gradient of the gates of one step gives to the state before it, for ROWS rows and two vectors of units.
template <int ROWS>
INLINE void backward_tile(const Run& run, const float* packed, const float* d_gates, int64_t unit, float* d_states) {
  const int64_t hidden = run.hidden;
  Vector sums[ROWS][2];
#pragma GCC unroll 8
  for (int one = 0; one < ROWS; ++one) sums[one][0] = sums[one][1] = splat(0.0f);
  for (int64_t gate = 0; gate < 4 * hidden; ++gate, packed += 2 * W) {
    const Vector low = load(packed), high = load(packed + W);
#pragma GCC unroll 8
    for (int one = 0; one < ROWS; ++one) {
      const Vector value = splat(d_gates[one * 4 * hidden + gate]);
      sums[one][0] += value * low;
      sums[one][1] += value * high;
    }
  }
  const int64_t count = least(2 * W, hidden - unit);
#pragma GCC unroll 8
  for (int one = 0; one < ROWS; ++one) {
    float* own = d_states + one * hidden + unit;
    store_some(own, load_some(own, count) + sums[one][0], count);
    if (count > W) store_some(own + W, load_some(own + W, count - W) + sums[one][1], count - W);
  }
}

template <int ROWS>
void backward_rest(
    const Run& run, const float* packed, const float* d_gates, int64_t unit, float* d_states, int64_t rows) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) {
      backward_tile<ROWS>(run, packed, d_gates, unit, d_states);
    } else {
      backward_rest<ROWS - 1>(run, packed, d_gates, unit, d_states, rows);
    }
  }
}

// The gradient of one row's gates, from those of its state and memory, which become those before the step, without what
// comes back through the gates' product.
void gate_gradients(const Run& run, int64_t place, float* d_state, float* d_memory) {
  const int64_t hidden = run.hidden;
  const float* gates = run.kept_gates + place * 4 * hidden;
  float* d_gates = run.d_gates + place * 4 * hidden;
  const Vector half = splat(0.5f), full = splat(1.0f);
  for (int64_t unit = 0; unit < hidden; unit += W) {
    const int64_t count = least(W, hidden - unit);
    Vector gate[4];
    for (int which = 0; which < 4; ++which) gate[which] = load_some(gates + which * hidden + unit, count);
    const Vector squashed = tanh_of(load_some(run.kept_memories + place * hidden + unit, count));
    const Vector half_state =
        half * (load_some(d_state + unit, count) + load_some(run.d_outputs + place * hidden + unit, count));
    const Vector to_memory = load_some(d_memory + unit, count) +
                             half_state * (gate[3] + full) * (full - squashed * squashed);
    const Vector half_memory = half * to_memory;
    const Vector arriving[4] = {
        half_memory * gate[2], half_memory * load_some(run.previous_memories + place * hidden + unit, count),
        half_memory * (gate[0] + full), half_state * squashed};
    for (int which = 0; which < 4; ++which)
      store_some(d_gates + which * hidden + unit, arriving[which] * (full - gate[which] * gate[which]), count);
    store_some(d_memory + unit, half_memory * (gate[1] + full), count);
    store_some(d_state + unit, splat(0.0f), count);
  }
}

void backward(const Run& run, const float* packed, int64_t first, int64_t last, char* room) {
  const int64_t hidden = run.hidden, rows = last - first;
  float* d_states = reinterpret_cast<float*>(room);
  float* d_memory = d_states + rows * hidden;
  const size_t bytes = rows * hidden * sizeof(float);
  std::memcpy(d_states, run.d_last_state + first * hidden, bytes);
  std::memcpy(d_memory, run.d_last_memory + first * hidden, bytes);
  const int64_t tiles = over(rows, BACKWARD_ROWS);
  for (int64_t count = 0; count < run.time; ++count) {
    const int64_t step = run.reverse ? count : run.time - 1 - count;
    const uint8_t* valid = run.valid == nullptr ? nullptr : run.valid + step * run.batch;
    const uint8_t* resets = run.resets == nullptr ? nullptr : run.resets + step * run.batch;
    for (int64_t row = first; row < last; ++row) {
      const int64_t place = step * run.batch + row;
      if (valid != nullptr && !valid[row]) {  // the state's gradient goes on as it is
        std::memset(run.d_gates + place * 4 * hidden, 0, 4 * hidden * sizeof(float));
      } else {
        gate_gradients(run, place, d_states + (row - first) * hidden, d_memory + (row - first) * hidden);
      }
    }
    const float* d_gates = run.d_gates + (step * run.batch + first) * 4 * hidden;
    for (int64_t pair = 0; pair < unit_pairs(run); ++pair) {
      const float* own = packed + pair * 4 * hidden * 2 * W;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = tile * rows / tiles, end = (tile + 1) * rows / tiles;
        backward_rest<BACKWARD_ROWS>(
            run, own, d_gates + row * 4 * hidden, pair * 2 * W, d_states + row * hidden, end - row);
      }
    }
    for (int64_t row = first; resets != nullptr && row < last; ++row) {
      if (!resets[row] || (valid != nullptr && !valid[row])) continue;
      std::memset(d_states + (row - first) * hidden, 0, hidden * sizeof(float));
      std::memset(d_memory + (row - first) * hidden, 0, hidden * sizeof(float));
    }
  }
  std::memcpy(run.d_state + first * hidden, d_states, bytes);
  std::memcpy(run.d_memory + first * hidden, d_memory, bytes);
}

}  // namespace

const RecurrenceKernels* VARIANT(recurrence)() {
  static const RecurrenceKernels kernels = {packed_bytes, row_bytes, pack_forward, pack_backward, forward, backward};
  return &kernels;
}

}  // namespace transformer_jax
