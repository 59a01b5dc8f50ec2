// Singular values of many small square matrices, one lane a matrix.
//
//   1. bidiagonal.h: Householder bidiagonalisation, two passes over the matrix a step.
//   2. dqds.h: dqds on the squares of the bidiagonal; bisection for what that does not find.
//
// Errors are a few eps times the largest singular value.

#ifndef JAXTASK_NATIVE_SINGULAR_VALUES_H_
#define JAXTASK_NATIVE_SINGULAR_VALUES_H_

#include <limits>

#include "bidiagonal.h"
#include "dqds.h"
#include "limits.h"

namespace jaxtask {
namespace {

template <typename Scalar>
constexpr int kMatricesAtOnce = kGroups * kLanes<Scalar>;

// Vectors of scratch for matrices of size n.
constexpr int64_t scratch_vectors(int64_t n) { return n * n + 6 * n + kGroups * 7 * n; }

// --------------------------------------------------------------------------- bisection

// The singular values [n] of one bidiagonal matrix, descending, for where dqds gave up; to an eighth of
// an epsilon of Scalar times the largest. Sturm counts on the symmetric matrix of zero diagonal whose
// off-diagonal is d_0, e_0, d_1, … (Golub and Kahan), for as many values at a time as there are lanes.
template <typename Scalar>
JAXTASK_INLINE void bisect(const double* d, const double* e, int64_t n, double* values) {
  using V = Lanes<double>;
  constexpr int lanes = kLanes<double>;
  double bound = 0, squares[2 * kLargest];
  for (int64_t i = 0; i < n; ++i) {
    const double left = i > 0 ? absolute(e[i - 1]) : 0, right = i + 1 < n ? absolute(e[i]) : 0;
    bound = maximum(bound, absolute(d[i]) + maximum(left, right));
    squares[2 * i] = d[i] * d[i];
    squares[2 * i + 1] = right * right;
  }
  const double enough = bound * std::numeric_limits<Scalar>::epsilon() / 8;
  const V tiny = V{} + std::numeric_limits<double>::min() / std::numeric_limits<double>::epsilon();
  for (int64_t first = 0; first < n; first += lanes) {
    V place, low{}, high = V{} + bound;
    for (int lane = 0; lane < lanes; ++lane) place[lane] = static_cast<double>(first + lane);
    while (true) {
      const V x = low + (high - low) / 2;
      const auto open = (high - low > enough) & (x > low) & (x < high);
      if (!any(open)) break;
      V above{}, pivot = -x;  // eigenvalues larger than x
      for (int64_t i = 0; i + 1 < 2 * n; ++i) {
        pivot = absolute(pivot) < tiny ? -tiny : pivot;
        above = pivot > 0 ? above + 1 : above;
        pivot = -x - squares[i] / pivot;
      }
      above = pivot > 0 ? above + 1 : above;
      low = open & (above > place) ? x : low;
      high = open & (above <= place) ? x : high;
    }
    for (int64_t lane = 0; lane < lanes && first + lane < n; ++lane) {
      values[first + lane] = low[lane] > 0 ? (low[lane] + high[lane]) / 2 : 0;
    }
  }
}

// --------------------------------------------------------------------------- a block of matrices

// Singular values [count, n] of matrices [count, n, n] in row-major order, count ≤ kMatricesAtOnce and
// n ≤ kLargest; NaN for a matrix that is not finite. Arithmetic is in Scalar.
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
    // Squares must neither over- nor underflow, nor what dqds takes as tiny. Lane by lane, so that a
    // result does not depend on which others are in the block.
    constexpr Scalar far = Scalar(1 << 10);
    const auto far_off = (largest > far) | ((largest < 1 / far) & (largest > 0));
    scale[g] = V{} + 1;
    if (any(broken | far_off)) {
      for (int lane = 0; lane < lanes; ++lane) {
        if (!broken[lane] && far_off[lane]) scale[g][lane] = __builtin_exp2(__builtin_ilogb(largest[lane]));
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
        double d[kLargest], off[kLargest], values_of_lane[kLargest];
        for (int64_t i = 0; i < n; ++i) d[i] = d_kept[g * n + i][lane];
        for (int64_t i = 0; i + 1 < n; ++i) off[i] = e_kept[g * n + i][lane];
        bisect<Scalar>(d, off, n, values_of_lane);
        for (int64_t i = 0; i < n; ++i) value[i][lane] = static_cast<Scalar>(values_of_lane[i]);
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
