// The kernels behind XLA's foreign-function interface: every shape is checked here before anything is read.

#include <cstring>

#include "attention_tasks.h"
#include "interface.h"

namespace transformer_jax {

namespace {

struct Shape {
  int64_t outer = 1;
  int64_t size[5] = {0, 0, 0, 0, 0};
};

// The last `rank` axes of a buffer; those before count maps.
bool split(const ffi::Span<const int64_t>& dims, size_t rank, Shape& shape) {
  if (dims.size() < rank) return false;
  shape.outer = 1;
  const size_t leading = dims.size() - rank;
  for (size_t axis = 0; axis < leading; ++axis) shape.outer *= dims[axis];
  for (size_t axis = 0; axis < rank; ++axis) shape.size[axis] = dims[leading + axis];
  return true;
}

struct Flags {
  int64_t left, right;  // -1: not bounded
  bool lengths, query_positions, key_positions, valid, dense, slopes, dropout;
  int64_t segment_pairs;
};

// Rows of an optional part: [rows, ...width], rows being 1 or the batch.
template <typename T, typename B>
bool part(const B& buffer, size_t rank, int64_t outer, int64_t batch, const int64_t* widths, Rows<T>& rows) {
  Shape shape;
  if (!split(buffer.dimensions(), rank, shape) || shape.outer != outer) return false;
  if (shape.size[0] != 1 && shape.size[0] != batch) return false;
  rows.rows = shape.size[0];
  rows.width = 1;
  for (size_t axis = 1; axis < rank; ++axis) {
    if (shape.size[axis] != widths[axis - 1]) return false;
    rows.width *= widths[axis - 1];
  }
  rows.data = reinterpret_cast<const T*>(buffer.untyped_data());
  return true;
}

// Whether a difference of positions may leave 32 bits.
bool may_wrap(const Rows<int32_t>& positions, int64_t outer) {
  const int64_t count = positions.data == nullptr ? 0 : outer * positions.rows * positions.width;
  for (int64_t at = 0; at < count; ++at) {
    if (positions.data[at] > (1 << 30) || positions.data[at] < -(1 << 30)) return true;
  }
  return false;
}

ffi::Error make_call(
    const Floats& query, const Floats& key, const Floats& value, const Integers& lengths,
    const Integers& query_positions, const Integers& key_positions, const Integers& query_segments,
    const Integers& key_segments, const Bytes& valid, const Bytes& dense, const Floats& slopes,
    const Words& dropout_keys, float scale, const Flags& flags, float rate, uint32_t threshold, Call& call) {
  Shape q, k, v;
  if (!split(query.dimensions(), 4, q)) return wrong("query");
  if (!split(key.dimensions(), 4, k) || k.outer != q.outer) return wrong("key");
  if (!split(value.dimensions(), 4, v) || v.outer != q.outer) return wrong("value");
  std::memset(static_cast<void*>(&call), 0, sizeof(call));
  call.outer = q.outer;
  call.batch = q.size[0];
  call.q_len = q.size[1];
  call.heads = q.size[2];
  call.head_dim = q.size[3];
  call.kv_len = k.size[1];
  call.kv_heads = k.size[2];
  call.value_dim = v.size[3];
  if (k.size[0] != call.batch || k.size[3] != call.head_dim) return wrong("key");
  if (v.size[0] != call.batch || v.size[1] != call.kv_len || v.size[2] != call.kv_heads) return wrong("value");
  if (call.kv_heads < 1 || call.heads % call.kv_heads != 0) return wrong("key");
  for (int64_t size : {call.outer, call.batch, call.q_len, call.heads, call.head_dim, call.kv_len, call.value_dim})
    if (size < 1) return wrong("an empty axis");
  call.query = query.typed_data();
  call.key = key.typed_data();
  call.value = value.typed_data();
  call.scale = scale;
  call.has_left = flags.left >= 0;
  call.has_right = flags.right >= 0;
  call.left = static_cast<int32_t>(flags.left);
  call.right = static_cast<int32_t>(flags.right);
  call.dropout_threshold = threshold;
  call.keep_scale = 1.0f / (1.0f - rate);
  const int64_t outer = call.outer, batch = call.batch, pairs = flags.segment_pairs;
  const int64_t queries[] = {call.q_len}, keys[] = {call.kv_len};
  const int64_t query_pairs[] = {pairs, call.q_len}, key_pairs[] = {pairs, call.kv_len};
  const int64_t weights[] = {call.heads, call.q_len, 2};
  const int64_t heads[] = {call.heads};
  if (flags.lengths && !part(lengths, 1, outer, batch, nullptr, call.lengths)) return wrong("lengths");
  if (flags.query_positions && !part(query_positions, 2, outer, batch, queries, call.query_positions))
    return wrong("query positions");
  if (flags.key_positions && !part(key_positions, 2, outer, batch, keys, call.key_positions))
    return wrong("key positions");
  call.num_segment_pairs = pairs;
  if (pairs > 0 && !part(query_segments, 3, outer, batch, query_pairs, call.query_segments))
    return wrong("query segments");
  if (pairs > 0 && !part(key_segments, 3, outer, batch, key_pairs, call.key_segments)) return wrong("key segments");
  if (flags.valid && !part(valid, 2, outer, batch, keys, call.valid)) return wrong("valid keys");
  if (flags.slopes && !part(slopes, 2, outer, batch, heads, call.slopes)) return wrong("slopes");
  if (flags.dropout && !part(dropout_keys, 4, outer, batch, weights, call.dropout_keys))
    return wrong("dropout keys");
  if (flags.dense) {
    Shape shape;
    if (!split(dense.dimensions(), 4, shape)) return wrong("dense mask");
    const int64_t entries[] = {shape.size[1], call.q_len, call.kv_len};
    if (shape.size[1] != 1 && shape.size[1] != call.heads) return wrong("dense mask");
    if (!part(dense, 4, outer, batch, entries, call.dense)) return wrong("dense mask");
    call.dense_heads = shape.size[1];
  }
  call.positions_may_wrap = may_wrap(call.query_positions, outer) || may_wrap(call.key_positions, outer);
  return ffi::Error::Success();
}

Flags flags_of(int64_t left, int64_t right, int64_t given, int64_t segment_pairs) {
  return Flags{left,
               right,
               (given & 1) != 0,
               (given & 2) != 0,
               (given & 4) != 0,
               (given & 8) != 0,
               (given & 16) != 0,
               (given & 32) != 0,
               (given & 64) != 0,
               segment_pairs};
}

bool fits(const ffi::Span<const int64_t>& dims, const ffi::Span<const int64_t>& like) {
  if (dims.size() != like.size()) return false;
  for (size_t axis = 0; axis < dims.size(); ++axis)
    if (dims[axis] != like[axis]) return false;
  return true;
}

ffi::Error forward(
    ffi::ThreadPool pool, Floats query, Floats key, Floats value, Integers lengths, Integers query_positions,
    Integers key_positions, Integers query_segments, Integers key_segments, Bytes valid, Bytes dense, Floats slopes,
    Words dropout_keys, ffi::Result<Floats> output, ffi::Result<Floats> logsumexp, float scale, int64_t left,
    int64_t right, int64_t given, int64_t segment_pairs, float rate, int64_t threshold) {
  Call call;
  ffi::Error error = make_call(
      query, key, value, lengths, query_positions, key_positions, query_segments, key_segments, valid, dense, slopes,
      dropout_keys, scale, flags_of(left, right, given, segment_pairs), rate, static_cast<uint32_t>(threshold), call);
  if (error.failure()) return error;
  const int64_t rows = call.outer * call.batch;
  if (int64_t(output->element_count()) != rows * call.q_len * call.heads * call.value_dim) return wrong("output");
  if (int64_t(logsumexp->element_count()) != rows * call.heads * call.q_len) return wrong("logsumexp");
  call.output = output->typed_data();
  call.logsumexp = logsumexp->typed_data();
  return ended(run_forward(call, threads_of(pool)));
}

ffi::Error backward(
    ffi::ThreadPool pool, Floats query, Floats key, Floats value, Integers lengths, Integers query_positions,
    Integers key_positions, Integers query_segments, Integers key_segments, Bytes valid, Bytes dense, Floats slopes,
    Words dropout_keys, Floats output, Floats logsumexp, Floats d_output, ffi::Result<Floats> d_query,
    ffi::Result<Floats> d_key, ffi::Result<Floats> d_value, ffi::Result<Floats> d_slopes, float scale, int64_t left,
    int64_t right, int64_t given, int64_t segment_pairs, float rate, int64_t threshold) {
  Call call;
  ffi::Error error = make_call(
      query, key, value, lengths, query_positions, key_positions, query_segments, key_segments, valid, dense, slopes,
      dropout_keys, scale, flags_of(left, right, given, segment_pairs), rate, static_cast<uint32_t>(threshold), call);
  if (error.failure()) return error;
  const int64_t rows = call.outer * call.batch, weights = rows * call.heads * call.q_len;
  if (int64_t(output.element_count()) != weights * call.value_dim) return wrong("output");
  if (int64_t(d_output.element_count()) != weights * call.value_dim) return wrong("the output's gradient");
  if (int64_t(logsumexp.element_count()) != weights) return wrong("logsumexp");
  if (!fits(d_query->dimensions(), query.dimensions())) return wrong("the query's gradient");
  if (!fits(d_key->dimensions(), key.dimensions())) return wrong("the key's gradient");
  if (!fits(d_value->dimensions(), value.dimensions())) return wrong("the value's gradient");
  if (call.slopes.data != nullptr && int64_t(d_slopes->element_count()) != weights)
    return wrong("the slopes' gradient");
  call.output = const_cast<float*>(output.typed_data());
  call.logsumexp = const_cast<float*>(logsumexp.typed_data());
  call.d_output = d_output.typed_data();
  call.d_query = d_query->typed_data();
  call.d_key = d_key->typed_data();
  call.d_value = d_value->typed_data();
  call.d_slopes = call.slopes.data == nullptr ? nullptr : d_slopes->typed_data();
  return ended(run_backward(call, threads_of(pool)));
}

}  // namespace

#define TJ_ARGUMENTS                                                                                  \
  ffi::Ffi::Bind()                                                                                    \
      .Ctx<ffi::ThreadPool>()                                                                         \
      .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Integers>().Arg<Integers>().Arg<Integers>()      \
      .Arg<Integers>().Arg<Integers>().Arg<Bytes>().Arg<Bytes>().Arg<Floats>().Arg<Words>()
#define TJ_ATTRIBUTES                                                                                 \
  .Attr<float>("scale").Attr<int64_t>("left").Attr<int64_t>("right").Attr<int64_t>("given")           \
      .Attr<int64_t>("segment_pairs").Attr<float>("rate").Attr<int64_t>("threshold")

}  // namespace transformer_jax

namespace tj = transformer_jax;
namespace ffi = xla::ffi;
using tj::Bytes;
using tj::Floats;
using tj::Integers;
using tj::Words;

extern "C" TJ_EXPORT XLA_FFI_Error* transformer_jax_attention_forward(XLA_FFI_CallFrame*);
extern "C" TJ_EXPORT XLA_FFI_Error* transformer_jax_attention_backward(XLA_FFI_CallFrame*);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    transformer_jax_attention_forward, tj::forward, TJ_ARGUMENTS.Ret<Floats>().Ret<Floats>() TJ_ATTRIBUTES);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    transformer_jax_attention_backward, tj::backward,
    TJ_ARGUMENTS.Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>()
        TJ_ATTRIBUTES);
