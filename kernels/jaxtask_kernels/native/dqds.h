// Eigenvalues of BᵀB from the squares of a bidiagonal B, every lane with a shift and a size of its own
// (Fernando and Parlett, Numer. Math. 67, 1994).

#ifndef JAXTASK_NATIVE_DQDS_H_
#define JAXTASK_NATIVE_DQDS_H_

#include <limits>
#include <type_traits>

#include "lanes.h"

namespace jaxtask {
namespace {

// Groups of lanes that go through dqds side by side: its recurrence waits for one division after
// another, which a second, independent chain hides.
constexpr int kGroups = 2;

// State of one group of lanes. `size` is how many values are still to be found, `given_up` how many never
// will be.
template <typename V>
struct Chain {
  V shift, sum, lost, size, failures, stalled, given_up, tolerance, tiny;
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
      // A d that is lost to underflow would take with it the part below, if e is 0. (Below 0 it is a
      // failure, which `lowest` and `last` tell of.)
      const V kept = maximum(d[g], chains[g].tiny);
      const V sum = kept + e[at];
      const V ratio = q[at + kGroups] / sum;
      const V new_e = e[at] * ratio;
      next_q[at] = above ? sum : d[g];
      next_e[at] = new_e;
      lowest[g] = above ? minimum(lowest[g], d[g]) : lowest[g];
      e3[g] = above ? e2[g] : e3[g];
      e2[g] = above ? e1[g] : e2[g];
      e1[g] = above ? new_e : e1[g];
      q2[g] = above ? q1[g] : q2[g];
      q1[g] = above ? sum : q1[g];
      d[g] = above ? kept * ratio - chains[g].shift : d[g];
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

// In eps of the sum of shifts so far.
constexpr int kNoise = 16;

// A part of the matrix that has come apart at the top and is singular keeps the shifts of what lies below
// it at zero. So many sweeps of that, and bisection is quicker, and more accurate too.
constexpr int kPatience = 32;

// A shift a little below the least value that is left, from the last two rows, whose smaller
// eigenvalue lies above it, less a bound on what the rows above can do. Where the least d is not
// at the bottom, convergence has not set in, and only a part of that d is safe. `noise` is how far equal
// values may lie apart by rounding: a shift that comes so close to one would fail for another.
template <typename V>
JAXTASK_INLINE V next_shift(V a, V b, V c, V above, V lowest, V size, V noise) {
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
  shift = shift > 4 * noise ? minimum(shift * below, shift - noise) : shift * below;
  shift = maximum(shift, V{});
  return size > 1 ? shift : V{};
}

// An e below this part of the largest square is taken as zero, which moves a value by √e at most.
template <typename Scalar>
constexpr Scalar kTolerance =
    std::numeric_limits<Scalar>::epsilon() * std::numeric_limits<Scalar>::epsilon() / 4;

// The last row may go where that moves its value by so many eps of the largest one. Householder's
// rounding leaves an e of about √n eps where there should be none, as between equal values; in float64
// nothing of what a caller sees is lost by taking it as zero, and the sweeps are a third.
template <typename Scalar>
constexpr int kMove = sizeof(Scalar) == 8 ? 4 : 2;

// Squares q [n], e [n − 1] of bidiagonals, [.., kGroups] innermost, to eigenvalues of BᵀB in `values`
// [kGroups, n, lanes], descending but for ties. `left` [kGroups] is how many each lane could not find,
// in so many sweeps at most.
template <typename V>
JAXTASK_INLINE void dqds(V* q, V* e, V* other_q, V* other_e, int64_t n, const V* scale2,
                         int64_t sweeps, V* values, V* left) {
  using Scalar = std::remove_reference_t<decltype(V{}[0])>;
  constexpr Scalar eps = std::numeric_limits<Scalar>::epsilon();
  Chain<V> chains[kGroups];
  V close[kGroups];  // of an e times the larger of it and the q above it, over the square below
  for (int g = 0; g < kGroups; ++g) {
    const V tolerance = scale2[g] * kTolerance<Scalar>;
    chains[g] = {V{}, V{}, V{}, V{} + static_cast<Scalar>(n), V{}, V{}, V{}, tolerance,
                 tolerance * eps * eps};
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
  // Values that lie close together are far from zero, compared with their distances, and shifts from the
  // bottom rows get there slowly: start at a bound below all of them, since B is a diagonal and a rest.
  for (int g = 0; g < kGroups; ++g) {
    V least = q[g], most{}, norm2 = q[g];  // no row is longer than the largest value
    for (int64_t i = 1; i < n; ++i) {
      const V above = q[(i - 1) * kGroups + g], coupling = e[(i - 1) * kGroups + g];
      least = minimum(least, q[i * kGroups + g]);
      most = maximum(most, coupling);
      norm2 = maximum(norm2, maximum(q[i * kGroups + g], above + coupling));
    }
    close[g] = kMove<Scalar> * kMove<Scalar> * eps * eps * norm2;
    const V root = maximum(square_root(least) - square_root(most), V{});
    chains[g].shift = n > 1 ? root * root * (1 - 16 * eps) : V{};
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
      // What couples the last row to the others moves its σ² by less than √(q₁ e₁) + e₁, and σ by that
      // over 2σ.
      const V square = maximum(chain.sum + bottom.last, V{});
      const auto found =
          passed & ((bottom.e1 <= chain.tolerance) | (chain.size == 1) |
                    (maximum(bottom.q1, bottom.e1) * bottom.e1 <= close[g] * square));
      if (any(found)) {
        const V value = chain.sum + (bottom.last - chain.lost);
        for (int64_t i = 0; i < longest; ++i) {
          const auto here = found & (chain.size == static_cast<Scalar>(i + 1));
          values[g * n + i] = here ? value : values[g * n + i];
        }
      }
      chain.size = found ? chain.size - 1 : chain.size;
      chain.stalled = passed & ~found & (bottom.lowest <= chain.tolerance) ? chain.stalled + 1 : V{};
      const auto enough = chain.stalled > kPatience;
      chain.given_up = enough ? chain.size : chain.given_up;
      chain.size = enough ? V{} : chain.size;
      const V a = found ? bottom.q1 : bottom.last, b = found ? bottom.e2 : bottom.e1;
      const V c = found ? bottom.q2 : bottom.q1, above = found ? bottom.e3 : bottom.e2;
      const V noise = kNoise * eps * chain.sum;
      const V proposed = next_shift(a, b, c, above, bottom.lowest, chain.size, noise);
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
  for (int g = 0; g < kGroups; ++g) left[g] = chains[g].size + chains[g].given_up;
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_DQDS_H_
