// The kernels for x86 with AVX-512.

#if defined(__x86_64__) && defined(__GNUC__)

// Before the pragma: what the standard library defines inline is for every processor.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512cd,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=skylake-avx512")
#endif

#define JAXTASK_VARIANT kAvx512
#define JAXTASK_NAME "x86-64, AVX-512"
#define JAXTASK_VECTOR_BYTES 64
#define JAXTASK_TILE_ROWS 12
#define JAXTASK_TILE_VECTORS 2
#include "variant.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
