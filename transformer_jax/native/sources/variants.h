// The compiled forms of the kernels, and which of them this processor runs.

#ifndef TRANSFORMER_JAX_VARIANTS_H_
#define TRANSFORMER_JAX_VARIANTS_H_

namespace transformer_jax {

struct Kernels;
struct RecurrenceKernels;

struct Variant {
  const char* name;
  const Kernels* attention;
  const RecurrenceKernels* recurrence;
};

const Variant* variant_here();

// Another one in its place; false where the processor or this library does not have it.
bool use_variant(const char* name);

}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_VARIANTS_H_
