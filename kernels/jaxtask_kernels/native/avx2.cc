// The kernels for x86 with AVX2.

#if defined(__x86_64__) && defined(__GNUC__)

// Before the pragma: what the standard library defines inline is for every processor.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=haswell")
#endif

#define JAXTASK_VARIANT kAvx2
#define JAXTASK_NAME "x86-64, AVX2"
#define JAXTASK_VECTOR_BYTES 32
#define JAXTASK_TILE_ROWS 6
#define JAXTASK_TILE_VECTORS 2
#include "variant.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
