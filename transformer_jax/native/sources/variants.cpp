#include "variants.h"

#include <atomic>
#include <cstring>

#include "attention.h"
#include "recurrence.h"

namespace transformer_jax {

namespace {

std::atomic<const Variant*> chosen{nullptr};

const Variant* variant_named(const char* name) {
#if defined(TJ_WITH_AVX512)
  if (std::strcmp(name, "avx512") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    static const Variant variant = {"avx512", avx512_attention(), avx512_recurrence()};
    return &variant;
  }
#endif
#if defined(TJ_WITH_AVX2)
  if (std::strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    static const Variant variant = {"avx2", avx2_attention(), avx2_recurrence()};
    return &variant;
  }
#endif
  static const Variant variant = {"plain", plain_attention(), plain_recurrence()};
  return std::strcmp(name, "plain") == 0 ? &variant : nullptr;
}

}  // namespace

const Variant* variant_here() {
  const Variant* variant = chosen.load(std::memory_order_acquire);
  if (variant != nullptr) return variant;
  for (const char* name : {"avx512", "avx2", "plain"}) {
    variant = variant_named(name);
    if (variant != nullptr) break;
  }
  chosen.store(variant, std::memory_order_release);
  return variant;
}

bool use_variant(const char* name) {
  const Variant* variant = variant_named(name);
  if (variant != nullptr) chosen.store(variant, std::memory_order_release);
  return variant != nullptr;
}

}  // namespace transformer_jax
