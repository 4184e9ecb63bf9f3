// What the handlers of XLA's foreign-function interface share.

#ifndef TRANSFORMER_JAX_INTERFACE_H_
#define TRANSFORMER_JAX_INTERFACE_H_

#include <functional>
#include <string>
#include <utility>

#include "tasks.h"
#include "xla/ffi/api/ffi.h"

#define TJ_EXPORT __attribute__((visibility("default")))

namespace transformer_jax {

namespace ffi = xla::ffi;

using Floats = ffi::Buffer<ffi::DataType::F32>;
using Integers = ffi::Buffer<ffi::DataType::S32>;
using Words = ffi::Buffer<ffi::DataType::U32>;
using Bytes = ffi::Buffer<ffi::DataType::PRED>;

inline ffi::Error ended(bool is_done) {
  if (is_done) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "native_cpu: no memory for a task");
}

inline ffi::Error wrong(const char* name) {
  return ffi::Error::InvalidArgument(std::string("native_cpu: the shape of ") + name + " does not fit the call");
}

inline Threads threads_of(ffi::ThreadPool& pool) {
  return Threads{pool.num_threads(), [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); }};
}

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_INTERFACE_H_
