// The steps of an LSTM behind XLA's foreign-function interface: every shape is checked here before anything is read.

#include <algorithm>
#include <initializer_list>

#include "interface.h"
#include "recurrence.h"
#include "variants.h"

namespace transformer_jax {

namespace {

constexpr int64_t LEAST_ROWS = 4;  // of a task

// Sizes that the arrays of a call are held to; maps of jax.vmap come before them.
struct Sizes {
  int64_t outer, time, batch, hidden;

  template <typename Buffer>
  bool fit(const Buffer& buffer, std::initializer_list<int64_t> sizes) const {
    int64_t wanted = outer;
    for (int64_t size : sizes) wanted *= size;
    return int64_t(buffer.element_count()) == wanted;
  }
  bool sequence(const Floats& buffer, int64_t gates) const { return fit(buffer, {time, batch, gates * hidden}); }
  bool state(const Floats& buffer) const { return fit(buffer, {batch, hidden}); }
  bool flags(const Bytes& buffer) const { return buffer.element_count() == 0 || fit(buffer, {time, batch}); }
};

// From [..., time, batch, 4 * hidden].
bool sizes_of(const Floats& gates, Sizes& sizes) {
  const auto dims = gates.dimensions();
  if (dims.size() < 3) return false;
  const size_t leading = dims.size() - 3;
  sizes.outer = 1;
  for (size_t axis = 0; axis < leading; ++axis) sizes.outer *= dims[axis];
  sizes.time = dims[leading];
  sizes.batch = dims[leading + 1];
  sizes.hidden = dims[leading + 2] / 4;
  return dims[leading + 2] % 4 == 0 && sizes.outer > 0 && sizes.time > 0 && sizes.batch > 0 && sizes.hidden > 0;
}

const uint8_t* flags_of(const Bytes& buffer) {
  return buffer.element_count() == 0 ? nullptr : reinterpret_cast<const uint8_t*>(buffer.untyped_data());
}

// A run without the arrays of either pass.
Run started(const Sizes& sizes, const Floats& weight, const Bytes& valid, const Bytes& resets, bool reverse) {
  Run run = {};
  run.time = sizes.time;
  run.batch = sizes.batch;
  run.hidden = sizes.hidden;
  run.reverse = reverse;
  run.weight = weight.typed_data();
  run.valid = flags_of(valid);
  run.resets = flags_of(resets);
  return run;
}

// Moves on to the arrays of the next map; those of the other pass are null, and stay so.
void advance(Run& run) {
  const auto by = [](int64_t count, auto*&... arrays) { ((arrays = arrays == nullptr ? nullptr : arrays + count), ...); };
  const int64_t steps = run.time * run.batch, rows = run.batch * run.hidden;
  by(4 * run.hidden * run.hidden, run.weight);
  by(steps, run.valid, run.resets);
  by(rows, run.state, run.memory, run.last_state, run.last_memory);
  by(rows, run.d_last_state, run.d_last_memory, run.d_state, run.d_memory);
  by(steps * run.hidden, run.outputs, run.memories, run.d_outputs, run.previous_memories, run.kept_memories);
  by(4 * steps * run.hidden, run.projected, run.gates, run.kept_gates, run.d_gates);
}

bool run_one(const Run& run, bool is_backward, const Threads& threads, Arena& arena) {
  const RecurrenceKernels* kernels = variant_here()->recurrence;
  if (!arena.reserve(kernels->packed_bytes(run))) return false;
  float* packed = static_cast<float*>(arena.take(kernels->packed_bytes(run)));
  if (packed == nullptr) return false;
  if (is_backward) {
    kernels->pack_backward(run, packed);
  } else {
    kernels->pack_forward(run, packed);
  }
  const int64_t tasks = std::max<int64_t>(1, std::min<int64_t>(threads.count, run.batch / LEAST_ROWS));
  const int64_t most_rows = (run.batch + tasks - 1) / tasks;
  const auto task = [&run, kernels, packed, tasks, is_backward, most_rows](int64_t which, Arena& own) {
    char* room = static_cast<char*>(own.take(kernels->row_bytes(run, most_rows)));
    if (room == nullptr) return false;
    const int64_t first = which * run.batch / tasks, last = (which + 1) * run.batch / tasks;
    if (is_backward) {
      kernels->backward(run, packed, first, last, room);
    } else {
      kernels->forward(run, packed, first, last, room);
    }
    return true;
  };
  return run_tasks(tasks, kernels->row_bytes(run, most_rows), false, threads, task);
}

ffi::Error run_all(Run run, const Sizes& sizes, bool is_backward, ffi::ThreadPool& pool) {
  static thread_local Arena arena;
  for (int64_t map = 0; map < sizes.outer; ++map) {
    if (!run_one(run, is_backward, threads_of(pool), arena)) return ended(false);
    advance(run);
  }
  return ended(true);
}

ffi::Error forward(
    ffi::ThreadPool pool, Floats weight, Floats projected, Floats state, Floats memory, Bytes valid, Bytes resets,
    ffi::Result<Floats> outputs, ffi::Result<Floats> last_state, ffi::Result<Floats> last_memory,
    ffi::Result<Floats> memories, ffi::Result<Floats> gates, bool reverse) {
  Sizes sizes;
  if (!sizes_of(projected, sizes)) return wrong("the projected inputs");
  if (!sizes.fit(weight, {sizes.hidden, 4 * sizes.hidden})) return wrong("the weight");
  if (!sizes.state(state) || !sizes.state(memory) || !sizes.state(*last_state) || !sizes.state(*last_memory))
    return wrong("the carry");
  if (!sizes.flags(valid) || !sizes.flags(resets)) return wrong("the steps that exist");
  if (!sizes.sequence(*outputs, 1)) return wrong("the outputs");
  const bool keeps = memories->element_count() > 0;
  if (keeps && (!sizes.sequence(*memories, 1) || !sizes.sequence(*gates, 4))) return wrong("the gates");
  Run run = started(sizes, weight, valid, resets, reverse);
  run.projected = projected.typed_data();
  run.state = state.typed_data();
  run.memory = memory.typed_data();
  run.outputs = outputs->typed_data();
  run.last_state = last_state->typed_data();
  run.last_memory = last_memory->typed_data();
  run.memories = keeps ? memories->typed_data() : nullptr;
  run.gates = keeps ? gates->typed_data() : nullptr;
  return run_all(run, sizes, false, pool);
}

ffi::Error backward(
    ffi::ThreadPool pool, Floats weight, Floats d_outputs, Floats d_last_state, Floats d_last_memory,
    Floats previous_memories, Floats memories, Floats gates, Bytes valid, Bytes resets, ffi::Result<Floats> d_gates,
    ffi::Result<Floats> d_state, ffi::Result<Floats> d_memory, bool reverse) {
  Sizes sizes;
  if (!sizes_of(gates, sizes)) return wrong("the gates");
  if (!sizes.fit(weight, {sizes.hidden, 4 * sizes.hidden})) return wrong("the weight");
  if (!sizes.state(d_last_state) || !sizes.state(d_last_memory) || !sizes.state(*d_state) || !sizes.state(*d_memory))
    return wrong("the carry's gradient");
  if (!sizes.flags(valid) || !sizes.flags(resets)) return wrong("the steps that exist");
  if (!sizes.sequence(d_outputs, 1)) return wrong("the outputs' gradient");
  if (!sizes.sequence(previous_memories, 1) || !sizes.sequence(memories, 1)) return wrong("the memories");
  if (!sizes.sequence(*d_gates, 4)) return wrong("the gates' gradient");
  Run run = started(sizes, weight, valid, resets, reverse);
  run.d_outputs = d_outputs.typed_data();
  run.d_last_state = d_last_state.typed_data();
  run.d_last_memory = d_last_memory.typed_data();
  run.previous_memories = previous_memories.typed_data();
  run.kept_memories = memories.typed_data();
  run.kept_gates = gates.typed_data();
  run.d_gates = d_gates->typed_data();
  run.d_state = d_state->typed_data();
  run.d_memory = d_memory->typed_data();
  return run_all(run, sizes, true, pool);
}

}  // namespace

}  // namespace transformer_jax

namespace tj = transformer_jax;
namespace ffi = xla::ffi;
using tj::Bytes;
using tj::Floats;

extern "C" TJ_EXPORT XLA_FFI_Error* transformer_jax_lstm_forward(XLA_FFI_CallFrame*);
extern "C" TJ_EXPORT XLA_FFI_Error* transformer_jax_lstm_backward(XLA_FFI_CallFrame*);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    transformer_jax_lstm_forward, tj::forward,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Bytes>().Arg<Bytes>()
        .Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>()
        .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    transformer_jax_lstm_backward, tj::backward,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
        .Arg<Bytes>().Arg<Bytes>()
        .Ret<Floats>().Ret<Floats>().Ret<Floats>()
        .Attr<bool>("reverse"));

// The variant that this processor runs.
extern "C" TJ_EXPORT const char* transformer_jax_variant() { return tj::variant_here()->name; }

// Takes another variant, for tests; 0 where this processor or this library does not have it.
extern "C" TJ_EXPORT int transformer_jax_use_variant(const char* name) { return tj::use_variant(name); }
