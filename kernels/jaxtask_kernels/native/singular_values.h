// Singular values of many small square matrices, one lane a matrix.
//
//   1. Householder bidiagonalisation, two passes over the matrix a step (Golub and Kahan 1965).
//   2. dqds on the squares of the bidiagonal (Fernando and Parlett, Numer. Math. 67, 1994), every
//      lane with a shift and a size of its own.
//
// Errors are a few eps times the largest singular value.

#ifndef JAXTASK_NATIVE_SINGULAR_VALUES_H_
#define JAXTASK_NATIVE_SINGULAR_VALUES_H_

#include <algorithm>
#include <limits>
#include <type_traits>

#include "lanes.h"

namespace jaxtask {
namespace {

// Groups of lanes that go through dqds side by side: its recurrence waits for one division after
// another, which a second, independent chain hides.
constexpr int kGroups = 2;

template <typename Scalar>
constexpr int kMatricesAtOnce = kGroups * kLanes<Scalar>;

// Larger matrices are LAPACK's.
constexpr int64_t kLargest = 128;

// Vectors of scratch for matrices of size n.
constexpr int64_t scratch_vectors(int64_t n) { return n * n + 6 * n + kGroups * 7 * n; }

// --------------------------------------------------------------------------- bidiagonalisation

// Reflector I − tau·u·uᵀ that takes a column to (alpha, 0, …): u replaces the column. All zero where
// the column is too small for its squares, which is below an eps of what matters.
template <typename V>
struct Reflector {
  V tau;
  V alpha;
};

template <typename V>
JAXTASK_INLINE Reflector<V> reflect(V* column, int64_t n) {
  const V first = column[0];
  if (n == 1) return {V{}, first};
  V squares = first * first;
  for (int64_t i = 1; i < n; ++i) squares += column[i] * column[i];
  const V norm = square_root(squares);
  const V alpha = first > 0 ? -norm : norm;
  const V scale = squares + absolute(first) * norm;
  column[0] = first - alpha;
  return {scale > 0 ? 1 / scale : V{}, alpha};
}

// Diagonal d [n] and superdiagonal e [n − 1] (up to signs) of U·A·V. A [n, n] is overwritten; scratch
// is [6 n].
//
// Step k:  A ← A − u wᵀ − x vᵀ with u, v the reflectors of column k and row k, w = tau Aᵀu and
// x = tau (A − u wᵀ) v. The update is put off until the next column's reflector is known, so that A
// is read twice and written once a step.
template <typename V>
JAXTASK_INLINE void bidiagonalise(V* A, int64_t n, V* d, V* e, V* scratch) {
  V *u = scratch, *w = u + n, *x = w + n, *v = x + n, *u_next = v + n, *sums = u_next + n;
  for (int64_t i = 0; i < n; ++i) u[i] = A[i * n];
  Reflector<V> column = reflect(u, n);
  d[0] = column.alpha;
  for (int64_t j = 1; j < n; ++j) w[j] = V{};
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 1; j < n; ++j) w[j] += u[i] * A[i * n + j];
  }
  for (int64_t j = 1; j < n; ++j) w[j] *= column.tau;

  for (int64_t k = 0; k + 1 < n; ++k) {
    // u[i] of row i, i ≥ k; w[j], v[j] of column j, j > k.
    for (int64_t j = k + 1; j < n; ++j) v[j] = A[k * n + j] - u[k] * w[j];
    const Reflector<V> row = reflect(v + k + 1, n - k - 1);
    e[k] = row.alpha;
    V wv{};
    for (int64_t j = k + 1; j < n; ++j) wv += w[j] * v[j];
    int64_t i = k + 1;
    for (; i + 4 <= n; i += 4) {
      V s0{}, s1{}, s2{}, s3{};
      const V* a = A + i * n;
      for (int64_t j = k + 1; j < n; ++j) {
        const V vj = v[j];
        s0 += a[j] * vj;
        s1 += a[n + j] * vj;
        s2 += a[2 * n + j] * vj;
        s3 += a[3 * n + j] * vj;
      }
      x[i] = row.tau * (s0 - u[i] * wv);
      x[i + 1] = row.tau * (s1 - u[i + 1] * wv);
      x[i + 2] = row.tau * (s2 - u[i + 2] * wv);
      x[i + 3] = row.tau * (s3 - u[i + 3] * wv);
    }
    for (; i < n; ++i) {
      V s{};
      for (int64_t j = k + 1; j < n; ++j) s += A[i * n + j] * v[j];
      x[i] = row.tau * (s - u[i] * wv);
    }
    const V w_first = w[k + 1], v_first = v[k + 1];
    for (int64_t i = k + 1; i < n; ++i) {
      u_next[i] = A[i * n + k + 1] - u[i] * w_first - x[i] * v_first;
    }
    column = reflect(u_next + k + 1, n - k - 1);
    d[k + 1] = column.alpha;
    if (k + 2 >= n) return;
    i = k + 1;
    for (int64_t j = k + 2; j < n; ++j) sums[j] = V{};
    for (; i + 4 <= n; i += 4) {
      V* a = A + i * n;
      const V u0 = u[i], u1 = u[i + 1], u2 = u[i + 2], u3 = u[i + 3];
      const V x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
      const V y0 = u_next[i], y1 = u_next[i + 1], y2 = u_next[i + 2], y3 = u_next[i + 3];
      for (int64_t j = k + 2; j < n; ++j) {
        const V wj = w[j], vj = v[j];
        const V a0 = a[j] - u0 * wj - x0 * vj;
        const V a1 = a[n + j] - u1 * wj - x1 * vj;
        const V a2 = a[2 * n + j] - u2 * wj - x2 * vj;
        const V a3 = a[3 * n + j] - u3 * wj - x3 * vj;
        a[j] = a0;
        a[n + j] = a1;
        a[2 * n + j] = a2;
        a[3 * n + j] = a3;
        sums[j] += (y0 * a0 + y1 * a1) + (y2 * a2 + y3 * a3);
      }
    }
    for (; i < n; ++i) {
      V* a = A + i * n;
      for (int64_t j = k + 2; j < n; ++j) {
        const V updated = a[j] - u[i] * w[j] - x[i] * v[j];
        a[j] = updated;
        sums[j] += u_next[i] * updated;
      }
    }
    for (int64_t j = k + 2; j < n; ++j) w[j] = column.tau * sums[j];
    swap(u, u_next);
  }
}

// --------------------------------------------------------------------------- dqds

// State of one group of lanes. `size` is how many values are still to be found.
template <typename V>
struct Chain {
  V shift, sum, lost, size, failures, tolerance, tiny;
};

// One step from the arrays (q, e) to (next_q, next_e), and what the next shift is made from: the last
// entries of the new arrays, counted from the bottom of each lane's own part.
template <typename V>
struct Bottom {
  V last;        // d at the bottom, the new q there
  V lowest;      // least d above the bottom
  V q1, q2;      // new q one and two places above the bottom
  V e1, e2, e3;  // new e one, two, three places above the bottom
};

template <typename V>
JAXTASK_INLINE void sweep(const V* q, const V* e, V* next_q, V* next_e, int64_t longest,
                          const Chain<V>* chains, Bottom<V>* bottoms) {
  using Scalar = std::remove_reference_t<decltype(V{}[0])>;
  V d[kGroups], lowest[kGroups], q1[kGroups], q2[kGroups], e1[kGroups], e2[kGroups], e3[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    d[g] = q[g] - chains[g].shift;
    lowest[g] = V{} + std::numeric_limits<Scalar>::max();
    q1[g] = q2[g] = e1[g] = e2[g] = e3[g] = V{};
  }
  for (int64_t i = 0; i + 1 < longest; ++i) {
    for (int g = 0; g < kGroups; ++g) {
      const int64_t at = i * kGroups + g;
      const auto above = static_cast<Scalar>(i + 1) + V{} < chains[g].size;
      const V sum = d[g] + e[at];
      const V ratio = q[at + kGroups] / maximum(sum, chains[g].tiny);
      const V new_e = e[at] * ratio;
      next_q[at] = above ? sum : d[g];
      next_e[at] = new_e;
      lowest[g] = above ? minimum(lowest[g], d[g]) : lowest[g];
      e3[g] = above ? e2[g] : e3[g];
      e2[g] = above ? e1[g] : e2[g];
      e1[g] = above ? new_e : e1[g];
      q2[g] = above ? q1[g] : q2[g];
      q1[g] = above ? sum : q1[g];
      d[g] = above ? d[g] * ratio - chains[g].shift : d[g];
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    next_q[(longest - 1) * kGroups + g] = d[g];
    bottoms[g] = {d[g], lowest[g], q1[g], q2[g], e1[g], e2[g], e3[g]};
  }
}

// How much of the correction in `next_shift` is taken off: with 1 shifts fail twice as often, and take
// one sweep in twenty more.
constexpr int kCaution = 2;

// A shift a little below the least value that is left, from the last two rows, whose smaller
// eigenvalue lies above it, less a bound on what the rows above can do. Where the least d is not
// at the bottom, convergence has not set in, and only a part of that d is safe.
template <typename V>
JAXTASK_INLINE V next_shift(V a, V b, V c, V above, V lowest, V size) {
  using Scalar = std::remove_reference_t<decltype(V{}[0])>;
  constexpr Scalar tiny = std::numeric_limits<Scalar>::min() * 4;
  const V gap = c + b - a;
  const V discriminant = square_root(gap * gap + 4 * a * b);
  const V least = 2 * a * c / maximum(a + b + c + discriminant, V{} + tiny);
  const V coupling = c + b - least;
  const V share = a * b;  // of the least eigenvector in the upper row, over coupling² + a b
  const V pull = (coupling * coupling + share) * discriminant;
  const V close = least - kCaution * (share * c * above) / maximum(pull, V{} + tiny);
  const V safe = minimum(lowest, least) / 4;
  V shift = (close > safe) & (lowest >= least) ? close : safe;
  constexpr Scalar below = 1 - 4 * std::numeric_limits<Scalar>::epsilon();
  shift = maximum(shift * below, V{});
  return size > 1 ? shift : V{};
}

// An e below this part of the largest square is taken as zero, which moves a value by √e at most.
template <typename Scalar>
constexpr Scalar kTolerance =
    std::numeric_limits<Scalar>::epsilon() * std::numeric_limits<Scalar>::epsilon() / 4;

// Squares q [n], e [n − 1] of bidiagonals, [.., kGroups] innermost, to eigenvalues of BᵀB in `values`
// [kGroups, n, lanes], descending but for ties. `left` [kGroups] is how many each lane could not find
// in so many sweeps.
template <typename V>
JAXTASK_INLINE void dqds(V* q, V* e, V* other_q, V* other_e, int64_t n, const V* scale2,
                         int64_t sweeps, V* values, V* left) {
  using Scalar = std::remove_reference_t<decltype(V{}[0])>;
  constexpr Scalar eps = std::numeric_limits<Scalar>::epsilon();
  Chain<V> chains[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    const V tolerance = scale2[g] * kTolerance<Scalar>;
    chains[g] = {V{}, V{}, V{}, V{} + static_cast<Scalar>(n), V{}, tolerance, tolerance * eps * eps};
    for (int64_t i = 0; i < n; ++i) {
      q[i * kGroups + g] = maximum(q[i * kGroups + g], tolerance / 64);
    }
    // The least value comes out at the bottom: start with the larger end at the top.
    const auto turn = q[g] < q[(n - 1) * kGroups + g];
    for (int64_t i = 0; i < n / 2; ++i) {
      V &top = q[i * kGroups + g], &low = q[(n - 1 - i) * kGroups + g];
      const V kept = top;
      top = turn ? low : top;
      low = turn ? kept : low;
    }
    for (int64_t i = 0; i < (n - 1) / 2; ++i) {
      V &top = e[i * kGroups + g], &low = e[(n - 2 - i) * kGroups + g];
      const V kept = top;
      top = turn ? low : top;
      low = turn ? kept : low;
    }
  }
  int64_t longest = n;
  for (; longest > 0 && sweeps > 0; --sweeps) {
    Bottom<V> bottoms[kGroups];
    sweep(q, e, other_q, other_e, longest, chains, bottoms);
    V sizes{};
    for (int g = 0; g < kGroups; ++g) {
      Chain<V>& chain = chains[g];
      const Bottom<V>& bottom = bottoms[g];
      const auto live = chain.size > 0;
      const auto failed = live & ((bottom.last < 0) | (bottom.lowest < 0));
      const auto passed = live & ~failed;
      // The sum of shifts, with what its rounding lost.
      const V step = chain.shift - chain.lost;
      const V sum = chain.sum + step;
      const V lost = (sum - chain.sum) - step;
      chain.sum = passed ? sum : chain.sum;
      chain.lost = passed ? lost : chain.lost;
      const auto found = passed & ((bottom.e1 <= chain.tolerance) | (chain.size == 1));
      if (any(found)) {
        const V value = chain.sum + (bottom.last - chain.lost);
        for (int64_t i = 0; i < longest; ++i) {
          const auto here = found & (chain.size == static_cast<Scalar>(i + 1));
          values[g * n + i] = here ? value : values[g * n + i];
        }
      }
      chain.size = found ? chain.size - 1 : chain.size;
      const V a = found ? bottom.q1 : bottom.last, b = found ? bottom.e2 : bottom.e1;
      const V c = found ? bottom.q2 : bottom.q1, above = found ? bottom.e3 : bottom.e2;
      const V proposed = next_shift(a, b, c, above, bottom.lowest, chain.size);
      // A failure at the very bottom says how far the shift was off: Rutishauser's late failure.
      const auto late = bottom.lowest >= 0;
      V lower = late ? (chain.shift + bottom.last) * (1 - 4 * eps) : chain.shift / 4;
      lower = chain.failures > 1 ? V{} : maximum(lower, V{});
      chain.failures = failed ? chain.failures + 1 : V{};
      chain.shift = failed ? lower : proposed;
      if (any(failed)) {
        for (int64_t i = 0; i < longest; ++i) {
          const int64_t at = i * kGroups + g;
          other_q[at] = failed ? q[at] : other_q[at];
          other_e[at] = failed ? e[at] : other_e[at];
        }
      }
      sizes = maximum(sizes, chain.size);
    }
    while (longest > 0 && !any(sizes >= static_cast<Scalar>(longest))) --longest;
    swap(q, other_q);
    swap(e, other_e);
  }
  for (int g = 0; g < kGroups; ++g) left[g] = chains[g].size;
}

// --------------------------------------------------------------------------- bisection

// The k-th largest singular value of one bidiagonal matrix, for where dqds gave up. A Sturm count on
// the symmetric matrix of zero diagonal whose off-diagonal is d_0, e_0, d_1, … (Golub and Kahan).
inline double bisect(const double* d, const double* e, int64_t n, int64_t k) {
  double high = 0;
  for (int64_t i = 0; i < n; ++i) {
    high = maximum(high, absolute(d[i]) + (i > 0 ? absolute(e[i - 1]) : 0.0));
    high = maximum(high, absolute(d[i]) + (i + 1 < n ? absolute(e[i]) : 0.0));
  }
  double low = 0;
  const double tiny = std::numeric_limits<double>::min() / std::numeric_limits<double>::epsilon();
  while (true) {
    const double x = low + (high - low) / 2;
    if (x <= low || x >= high) return high;
    int64_t above = 0;  // eigenvalues larger than x
    double pivot = -x;
    for (int64_t i = 0; i < 2 * n; ++i) {
      if (i > 0) {
        const double b = i % 2 ? d[i / 2] : e[i / 2 - 1];
        pivot = -x - b * b / pivot;
      }
      if (absolute(pivot) < tiny) pivot = -tiny;
      above += pivot > 0;
    }
    (above > k ? low : high) = x;
  }
}

// --------------------------------------------------------------------------- a block of matrices

// Singular values [count, n] of matrices [count, n, n] in row-major order, count ≤ kMatricesAtOnce;
// NaN for a matrix that is not finite. Arithmetic is in Scalar.
template <typename Stored, typename Scalar>
JAXTASK_INLINE void singular_values_of_block(const Stored* matrices, Stored* values, int64_t count,
                                             int64_t n, int64_t sweeps, Lanes<Scalar>* scratch) {
  using V = Lanes<Scalar>;
  constexpr int lanes = kLanes<Scalar>;
  const FlushDenormals flushed;
  V *A = scratch, *work = A + n * n, *q = work + 6 * n, *e = q + kGroups * n;
  V *other_q = e + kGroups * n, *other_e = other_q + kGroups * n, *found = other_e + kGroups * n;
  V *d_kept = found + kGroups * n, *e_kept = d_kept + kGroups * n;
  V scale2[kGroups], scale[kGroups], poison[kGroups], left[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    const Stored* from[lanes];  // the lanes that are left over repeat the last matrix
    for (int lane = 0; lane < lanes; ++lane) {
      from[lane] = matrices + minimum<int64_t>(g * lanes + lane, count - 1) * n * n;
    }
    to_lanes(from, n * n, A);
    V largest{}, bad{};
    for (int64_t i = 0; i < n * n; ++i) {
      largest = maximum(largest, absolute(A[i]));
      bad += A[i] * 0;
    }
    poison[g] = bad;
    const auto broken = bad != bad;
    // Squares must neither over- nor underflow.
    constexpr Scalar far = Scalar(1 << 20);
    scale[g] = V{} + 1;
    if (any(broken | (largest > far) | ((largest < 1 / far) & (largest > 0)))) {
      for (int lane = 0; lane < lanes; ++lane) {
        if (!broken[lane] && largest[lane] > 0) scale[g][lane] = __builtin_exp2(__builtin_ilogb(largest[lane]));
      }
      for (int64_t i = 0; i < n * n; ++i) A[i] = broken ? V{} : A[i] / scale[g];
      largest = broken ? V{} : largest / scale[g];
    }
    scale2[g] = largest * largest;
    V *d = d_kept + g * n, *off = e_kept + g * n;
    bidiagonalise(A, n, d, off, work);
    for (int64_t i = 0; i < n; ++i) q[i * kGroups + g] = d[i] * d[i];
    for (int64_t i = 0; i + 1 < n; ++i) e[i * kGroups + g] = off[i] * off[i];
    for (int64_t i = 0; i < n; ++i) found[g * n + i] = V{};
  }
  dqds(q, e, other_q, other_e, n, scale2, sweeps, found, left);
  for (int g = 0; g < kGroups; ++g) {
    V* value = found + g * n;
    const V floor = scale2[g] * (kTolerance<Scalar> / 32);  // what dqds puts in the place of zeros
    for (int64_t i = 0; i < n; ++i) value[i] = value[i] > floor ? square_root(value[i]) : V{};
    if (any(left[g] > 0)) {
      for (int lane = 0; lane < lanes; ++lane) {
        if (!(left[g][lane] > 0)) continue;
        double d[kLargest], off[kLargest];
        for (int64_t i = 0; i < n; ++i) d[i] = d_kept[g * n + i][lane];
        for (int64_t i = 0; i + 1 < n; ++i) off[i] = e_kept[g * n + i][lane];
        for (int64_t i = 0; i < n; ++i) value[i][lane] = static_cast<Scalar>(bisect(d, off, n, i));
      }
    }
    for (bool sorted = false; !sorted;) {
      sorted = true;
      for (int64_t i = 0; i + 1 < n; ++i) {
        const auto wrong = value[i] < value[i + 1];
        if (!any(wrong)) continue;
        sorted = false;
        const V low = minimum(value[i], value[i + 1]);
        value[i] = maximum(value[i], value[i + 1]);
        value[i + 1] = low;
      }
    }
    for (int64_t i = 0; i < n; ++i) value[i] = value[i] * scale[g] + poison[g];
    for (int lane = 0; lane < lanes && g * lanes + lane < count; ++lane) {
      Stored* row = values + (g * lanes + lane) * n;
      for (int64_t i = 0; i < n; ++i) row[i] = static_cast<Stored>(value[i][lane]);
    }
  }
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_SINGULAR_VALUES_H_
