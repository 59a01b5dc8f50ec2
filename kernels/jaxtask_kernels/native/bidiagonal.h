// Householder bidiagonalisation, one lane a matrix (Golub and Kahan 1965).

#ifndef JAXTASK_NATIVE_BIDIAGONAL_H_
#define JAXTASK_NATIVE_BIDIAGONAL_H_

#include "lanes.h"

namespace jaxtask {
namespace {

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

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_BIDIAGONAL_H_
