// Vectors of one kind of vector unit, for the files that are compiled once for each.

#ifndef TRANSFORMER_JAX_VECTORS_H_
#define TRANSFORMER_JAX_VECTORS_H_

#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

// A name that no other variant has.
#if defined(__AVX512F__)
#define VARIANT(name) avx512_##name
#elif defined(__AVX2__)
#define VARIANT(name) avx2_##name
#else
#define VARIANT(name) plain_##name
#endif

namespace transformer_jax {
namespace {  // nothing here may be shared between variants: they are compiled for different processors

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif


constexpr float LOG2_E = 1.44269504088896340736f;
constexpr float LN_2 = 0.69314718055994530942f;
constexpr float INFINITE = __builtin_inff();

typedef float Vector __attribute__((vector_size(4 * W)));
typedef float LooseVector __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * W)));
typedef int32_t LooseInts __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * W)));
typedef uint32_t LooseWords __attribute__((vector_size(4 * W), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE Vector load(const float* from) { return *reinterpret_cast<const LooseVector*>(from); }
INLINE void store(float* to, Vector values) { *reinterpret_cast<LooseVector*>(to) = values; }
INLINE Ints load(const int32_t* from) { return *reinterpret_cast<const LooseInts*>(from); }
INLINE Words load(const uint32_t* from) { return *reinterpret_cast<const LooseWords*>(from); }

INLINE Vector splat(float value) {
#if defined(__AVX512F__)
  return (Vector)_mm512_set1_ps(value);
#elif defined(__AVX2__)
  return (Vector)_mm256_set1_ps(value);
#else
  return Vector{value, value, value, value};
#endif
}
INLINE Ints splat(int32_t value) { return Ints{} + value; }
INLINE Words splat(uint32_t value) { return Words{} + value; }

// The absolute value, in arithmetic that may wrap around.
INLINE Ints size_of(Ints values) {
  return values < 0 ? reinterpret_cast<Ints>(Words{} - reinterpret_cast<Words>(values)) : values;
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t over(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE bool is_finite(float value) { return value - value == 0.0f; }

// 2^x for x <= 0; zero below the normal numbers, NaN for NaN. The polynomial's relative error is 1e-7 over [-1/2, 1/2].
INLINE Vector exp2_of(Vector x) {
  const Vector magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Vector shifted = x + magic;
  const Vector whole = shifted - magic;
  const Vector rest = x - whole;
  Vector power = splat(1.326472690e-3f);
  power = power * rest + splat(9.671512661e-3f);
  power = power * rest + splat(5.550733744e-2f);
  power = power * rest + splat(2.402224208e-1f);
  power = power * rest + splat(6.931469776e-1f);
  power = power * rest + splat(1.0f);
  const Words exponent = reinterpret_cast<Words>(shifted) << 23;
  const Vector result = reinterpret_cast<Vector>(reinterpret_cast<Words>(power) + exponent);
  return x < splat(-126.0f) ? splat(0.0f) : (x == x ? result : x);
}

// tanh by a rational function; the error is at most 4e-7, and NaN stays NaN.
INLINE Vector tanh_of(Vector x) {
  Vector clipped = x < splat(-8.0f) ? splat(-8.0f) : x;
  clipped = clipped > splat(8.0f) ? splat(8.0f) : clipped;
  const Vector square = clipped * clipped;
  Vector above = splat(1.523082633e-8f);
  above = above * square + splat(2.189496912e-5f);
  above = above * square + splat(3.571617435e-3f);
  above = above * square + splat(1.344451460e-1f);
  above = above * square + splat(9.999999936e-1f);
  Vector below = splat(8.522616990e-7f);
  below = below * square + splat(3.411323211e-4f);
  below = below * square + splat(2.616451763e-2f);
  below = below * square + splat(4.677784194e-1f);
  below = below * square + splat(1.0f);
  return clipped * above / below;
}

}  // namespace
}  // namespace transformer_jax

#endif  // TRANSFORMER_JAX_VECTORS_H_
