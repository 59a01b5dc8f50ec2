// Vectors of the compiler's own extension (GCC, Clang): one lane a matrix.
//
// They are as wide as the registers of the level that is compiled for: the compiler would split wider ones,
// but comparisons and choices into single numbers. Every file that includes this is compiled for
// one level of x86 (see variants.h), and so everything here has internal linkage.

#ifndef JAXTASK_NATIVE_LANES_H_
#define JAXTASK_NATIVE_LANES_H_

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#define JAXTASK_INLINE inline __attribute__((always_inline))

namespace jaxtask {
namespace {

#if !defined(JAXTASK_VECTOR_BYTES)
#define JAXTASK_VECTOR_BYTES 16
#endif
constexpr int kVectorBytes = JAXTASK_VECTOR_BYTES;

typedef float Float32s __attribute__((vector_size(kVectorBytes)));
typedef double Float64s __attribute__((vector_size(kVectorBytes)));

template <typename Scalar>
struct LanesOf;
template <>
struct LanesOf<float> {
  using Vector = Float32s;
};
template <>
struct LanesOf<double> {
  using Vector = Float64s;
};

template <typename Scalar>
using Lanes = typename LanesOf<Scalar>::Vector;

template <typename Scalar>
constexpr int kLanes = kVectorBytes / sizeof(Scalar);

// What follows serves vectors and numbers alike. The standard library's functions are compiled for the
// least of processors, and so would be called, not inlined.

template <typename T>
constexpr JAXTASK_INLINE T maximum(T a, T b) {
  return a > b ? a : b;
}

template <typename T>
constexpr JAXTASK_INLINE T minimum(T a, T b) {
  return a < b ? a : b;
}

template <typename T>
JAXTASK_INLINE T absolute(T a) {
  return a < 0 ? -a : a;
}

JAXTASK_INLINE float square_root(float a) { return __builtin_sqrtf(a); }
JAXTASK_INLINE double square_root(double a) { return __builtin_sqrt(a); }

template <typename T>
JAXTASK_INLINE void swap(T& a, T& b) {
  const T kept = a;
  a = b;
  b = kept;
}

template <typename T>
JAXTASK_INLINE void fill(T* from, T* end, T value) {
  for (; from < end; ++from) *from = value;
}

template <typename T>
JAXTASK_INLINE void copy(const T* from, const T* end, T* to) {
  for (; from < end; ++from, ++to) *to = *from;
}

template <typename Vector>
JAXTASK_INLINE Vector square_root(Vector a) {
  Vector root{};
  for (unsigned lane = 0; lane < sizeof(Vector) / sizeof(a[0]); ++lane) {
    root[lane] = square_root(a[lane]);
  }
  return root;
}

// Whether any lane of a comparison's result is true.
template <typename Mask>
JAXTASK_INLINE bool any(Mask mask) {
  int64_t words[sizeof(Mask) / sizeof(int64_t)];
  __builtin_memcpy(words, &mask, sizeof(Mask));
  int64_t all = 0;
  for (int64_t word : words) all |= word;
  return all != 0;
}

// --------------------------------------------------------------------------- one array a lane

// Rows 2i and 2i + stride hold squares of stride × stride that change places across the diagonal.
template <int stride, typename V, int... lane>
JAXTASK_INLINE void exchange(V& a, V& b, std::integer_sequence<int, lane...>) {
  constexpr int lanes = sizeof...(lane);
  const V low = __builtin_shufflevector(
      a, b, ((lane & stride) ? lanes + (lane ^ stride) : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & stride) ? lanes + lane : (lane ^ stride))...);
  a = low;
}

template <int stride, typename V, int lanes>
JAXTASK_INLINE void transpose_from(V (&rows)[lanes]) {
  if constexpr (stride < lanes) {
    for (int i = 0; i < lanes; ++i) {
      if (!(i & stride)) {
        exchange<stride>(rows[i], rows[i + stride], std::make_integer_sequence<int, lanes>());
      }
    }
    transpose_from<2 * stride>(rows);
  }
}

// `count` numbers from each of as many arrays as there are lanes: to[i][lane] = from[lane][i].
template <typename Stored, typename V, int lanes>
JAXTASK_INLINE void to_lanes(const Stored* const (&from)[lanes], int64_t count, V* to) {
  using Scalar = std::remove_reference_t<decltype(V{}[0])>;
  typedef Stored Row __attribute__((vector_size(lanes * sizeof(Stored))));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    V rows[lanes];
    for (int lane = 0; lane < lanes; ++lane) {
      Row row;
      __builtin_memcpy(&row, from[lane] + i, sizeof(Row));
      rows[lane] = __builtin_convertvector(row, V);
    }
    transpose_from<1>(rows);
    for (int lane = 0; lane < lanes; ++lane) to[i + lane] = rows[lane];
  }
  for (; i < count; ++i) {
    V gathered{};
    for (int lane = 0; lane < lanes; ++lane) gathered[lane] = static_cast<Scalar>(from[lane][i]);
    to[i] = gathered;
  }
}

// --------------------------------------------------------------------------- denormal numbers

// While one lives, this thread takes denormal numbers as zero: they arise all the time where
// something converges to zero, and each costs the processor over a hundred cycles.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#else
  FlushDenormals() {}
#endif
};

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_LANES_H_
