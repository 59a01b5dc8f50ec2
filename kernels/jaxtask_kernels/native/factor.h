// Thin SVD of one update ΔW = B·A through the Gram matrices of its factors, in float64.
//
//   K_B = BᵀB = R_BᵀR_B,  K_A = A Aᵀ = R_AᵀR_A     Cholesky, columns scaled to norm one first
//   R_B R_Aᵀ = X diag(s) Yᵀ                        one-sided Jacobi
//   U = B R_B⁻¹ X,  V = Aᵀ R_A⁻¹ Y
//
// The factors are read where they lie, kTile numbers of each direction at a time.

#ifndef JAXTASK_NATIVE_FACTOR_H_
#define JAXTASK_NATIVE_FACTOR_H_

#include <limits>

#include "lanes.h"

namespace jaxtask {
namespace {

constexpr int64_t kTile = 128;

// Updates of higher rank are left to other methods.
constexpr int64_t kMostDirections = 256;

// As many float32 numbers as Float64s holds.
typedef float Narrowed __attribute__((vector_size(kVectorBytes / 2)));

// One factor: r directions of d numbers. Number i of direction k lies at
// data[i * along + k * across].
template <typename Stored>
struct Directions {
  const Stored* data;
  int64_t d, r, along, across;
};

// Fills the tile from rows of r numbers, as many at a time as V has lanes; returns how many it did.
template <typename V, typename Stored>
JAXTASK_INLINE int64_t transpose_rows(const Directions<Stored>& x, const Stored* from, int64_t count,
                                      double* tile) {
  constexpr int64_t lanes = sizeof(V) / sizeof(V{}[0]);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Stored* rows[lanes];
    for (int64_t lane = 0; lane < lanes; ++lane) rows[lane] = from + (i + lane) * x.along;
    V columns[kMostDirections];
    to_lanes(rows, x.r, columns);
    for (int64_t k = 0; k < x.r; ++k) {
      for (int64_t lane = 0; lane < lanes; ++lane) tile[k * kTile + i + lane] = columns[k][lane];
    }
  }
  return i;
}

// Numbers `start` … of all directions, as float64 [padded r, kTile], zero beyond.
template <typename Stored>
JAXTASK_INLINE void load_tile(const Directions<Stored>& x, int64_t start, double* tile) {
  const int64_t count = minimum(kTile, x.d - start);
  const Stored* from = x.data + start * x.along;
  if (x.along == 1) {
    for (int64_t k = 0; k < x.r; ++k) {
      for (int64_t i = 0; i < count; ++i) tile[k * kTile + i] = from[k * x.across + i];
    }
  } else {
    int64_t i = 0;
    if (x.across == 1) {
      const bool whole = x.r % kLanes<Stored> == 0;
      i = whole ? transpose_rows<Lanes<Stored>>(x, from, count, tile)
                : transpose_rows<Float64s>(x, from, count, tile);
    }
    for (; i < count; ++i) {
      for (int64_t k = 0; k < x.r; ++k) tile[k * kTile + i] = from[i * x.along + k * x.across];
    }
  }
  for (int64_t k = 0; k < x.r && count < kTile; ++k) {
    fill(tile + k * kTile + count, tile + (k + 1) * kTile, 0.0);
  }
}

JAXTASK_INLINE Float64s load(const double* from) {
  Float64s x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

JAXTASK_INLINE double total(Float64s x) {
  double sum = 0;
  for (int lane = 0; lane < kLanes<double>; ++lane) sum += x[lane];
  return sum;
}

// Adds the products of four directions with four others over a tile to 16 vectors of partial sums.
JAXTASK_INLINE void add_products(const double* rows, const double* columns, Float64s* sums) {
  Float64s sum[4][4];
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 4; ++j) sum[k][j] = sums[4 * k + j];
  }
  for (int64_t i = 0; i < kTile; i += kLanes<double>) {
    Float64s y[4];
    for (int j = 0; j < 4; ++j) y[j] = load(columns + j * kTile + i);
    for (int k = 0; k < 4; ++k) {
      const Float64s x = load(rows + k * kTile + i);
      for (int j = 0; j < 4; ++j) sum[k][j] += x * y[j];
    }
  }
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 4; ++j) sums[4 * k + j] = sum[k][j];
  }
}

// K [p, p] of r directions of d numbers, p = r rounded up to 8. `load(start)` puts numbers start … of
// all of them into the tile [p, kTile], with zeros beyond the last number and from direction r on; sums
// are p²/2 + 2p vectors.
template <typename Load>
JAXTASK_INLINE void gram(int64_t d, int64_t p, const Load& load, const double* tile, Float64s* sums,
                         double* K) {
  fill(sums, sums + p * p / 2 + 2 * p, Float64s{});
  for (int64_t start = 0; start < d; start += kTile) {
    load(start);
    Float64s* block = sums;
    for (int64_t k = 0; k < p; k += 4) {
      for (int64_t j = k; j < p; j += 4, block += 16) {
        add_products(tile + k * kTile, tile + j * kTile, block);
      }
    }
  }
  for (int64_t k = 0; k < p; k += 4) {
    for (int64_t j = k; j < p; j += 4, sums += 16) {
      for (int i = 0; i < 16; ++i) {
        K[(k + i / 4) * p + j + i % 4] = K[(j + i % 4) * p + k + i / 4] = total(sums[i]);
      }
    }
  }
}

// out[k, :] = Σ_l T[l, k] · direction l, for k < r: [r, d]. T is [p, p], p = r rounded up to 8.
template <typename Stored>
JAXTASK_INLINE void apply(const Directions<Stored>& x, int64_t p, const double* T, double* tile,
                          float* out) {
  constexpr int64_t lanes = kLanes<double>;
  for (int64_t start = 0; start < x.d; start += kTile) {
    load_tile(x, start, tile);
    const int64_t count = minimum(kTile, x.d - start);
    for (int64_t k = 0; k < p; k += 8) {
      for (int64_t i = 0; i < count; i += 2 * lanes) {
        Float64s sums[8][2] = {};
        for (int64_t l = 0; l < x.r; ++l) {
          const Float64s y[2] = {load(tile + l * kTile + i), load(tile + l * kTile + i + lanes)};
          for (int j = 0; j < 8; ++j) {
            const double t = T[l * p + k + j];
            sums[j][0] += t * y[0];
            sums[j][1] += t * y[1];
          }
        }
        const int64_t whole = minimum<int64_t>(2 * lanes, count - i);
        for (int j = 0; j < 8 && k + j < x.r; ++j) {
          float* to = out + (k + j) * x.d + start + i;
          const Narrowed low = __builtin_convertvector(sums[j][0], Narrowed);
          const Narrowed high = __builtin_convertvector(sums[j][1], Narrowed);
          if (whole == 2 * lanes) {
            // One by one: to read both as one vector would wait for both to be written.
            __builtin_memcpy(to, &low, sizeof low);
            __builtin_memcpy(to + lanes, &high, sizeof high);
          } else {
            for (int64_t at = 0; at < whole; ++at) to[at] = at < lanes ? low[at] : high[at - lanes];
          }
        }
      }
    }
  }
}

// From K = XᵀX [r, r in p]: R with X = Q R (upper), its inverse, and a bound on the condition number
// of X with its columns scaled to norm one, infinite where Cholesky fails. Zero columns are left out.
JAXTASK_INLINE double cholesky(const double* K, int64_t r, int64_t p, double* R, double* inverse,
                               double* norms) {
  for (int64_t k = 0; k < r; ++k) norms[k] = square_root(K[k * p + k]);
  fill(R, R + p * p, 0.0);
  fill(inverse, inverse + p * p, 0.0);
  double size = 0, inverse_size = 0;
  for (int64_t k = 0; k < r; ++k) {
    for (int64_t j = k; j < r; ++j) {
      const bool dead = norms[k] == 0 || norms[j] == 0;
      double sum = dead ? (k == j) : K[k * p + j] / norms[k] / norms[j];
      for (int64_t i = 0; i < k; ++i) sum -= R[i * p + k] * R[i * p + j];
      if (j == k) {
        if (!(sum > 0)) return std::numeric_limits<double>::infinity();
        R[k * p + k] = square_root(sum);
      } else {
        R[k * p + j] = sum / R[k * p + k];
      }
      size += R[k * p + j] * R[k * p + j];
    }
  }
  for (int64_t j = 0; j < r; ++j) {
    for (int64_t k = j; k >= 0; --k) {
      double sum = k == j;
      for (int64_t i = k + 1; i <= j; ++i) sum -= R[k * p + i] * inverse[i * p + j];
      inverse[k * p + j] = sum / R[k * p + k];
      inverse_size += inverse[k * p + j] * inverse[k * p + j];
    }
  }
  for (int64_t k = 0; k < r; ++k) {
    for (int64_t j = 0; j < r; ++j) {
      R[k * p + j] *= norms[j];
      inverse[k * p + j] *= norms[k] > 0 ? 1 / norms[k] : 0.0;
    }
  }
  return square_root(size * inverse_size);
}

// One-sided Jacobi on the rows of C [r, r], one lane a matrix: rotates them until they are orthogonal,
// s_k x_kᵀ with s descending, and gathers the rotations in Y, whose rows become y_k (Hestenes 1958).
// Returns false if some lane did not converge.
JAXTASK_INLINE bool jacobi(Float64s* C, Float64s* Y, int64_t r) {
  constexpr double eps = std::numeric_limits<double>::epsilon();
  for (int64_t k = 0; k < r; ++k) {
    for (int64_t i = 0; i < r; ++i) Y[k * r + i] = Float64s{} + (k == i ? 1.0 : 0.0);
  }
  for (int sweep = 0; sweep < 40; ++sweep) {
    bool rotated = false;
    for (int64_t k = 0; k + 1 < r; ++k) {
      for (int64_t l = k + 1; l < r; ++l) {
        Float64s *a = C + k * r, *b = C + l * r;
        Float64s alpha{}, beta{}, gamma{};
        for (int64_t i = 0; i < r; ++i) {
          alpha += a[i] * a[i];
          beta += b[i] * b[i];
          gamma += a[i] * b[i];
        }
        // Larger rows first: where they are not, a quarter turn more.
        const auto turn = alpha < beta;
        const auto skew = gamma * gamma > (eps * eps) * alpha * beta;
        if (!any(turn | skew)) continue;
        rotated = true;
        const Float64s zeta = absolute(alpha - beta) / (2 * (skew ? gamma : Float64s{} + 1));
        Float64s tangent = 1 / (absolute(zeta) + square_root(1 + zeta * zeta));
        tangent = skew ? (gamma < 0 ? -tangent : tangent) : Float64s{};
        const Float64s c = 1 / square_root(1 + tangent * tangent), s = c * tangent;
        // In a turned lane b is the larger row, and takes the place of a.
        const Float64s aa = turn ? s : c, ab = turn ? c : s, ba = turn ? c : -s, bb = turn ? -s : c;
        Float64s *u = Y + k * r, *v = Y + l * r;
        for (int64_t i = 0; i < r; ++i) {
          const Float64s x = a[i], y = b[i], z = u[i], w = v[i];
          a[i] = aa * x + ab * y;
          b[i] = ba * x + bb * y;
          u[i] = aa * z + ab * w;
          v[i] = ba * z + bb * w;
        }
      }
    }
    if (!rotated) return true;
  }
  return false;
}

struct Update {
  double scale, rtol;
  float *U, *V, *s;  // [r, d_out] and [r, d_in] or null, and [r]
  int32_t* rank;
};

// What the steps for one update leave for the next: R_B, R_A and their inverses; K and norms are
// scratch.
struct Triangles {
  double *RB, *TB, *RA, *TA, *K, *norms;

  static constexpr int64_t numbers(int64_t p) { return 5 * p * p + p; }
  Triangles(double* memory, int64_t p)
      : RB(memory), TB(RB + p * p), RA(TB + p * p), TA(RA + p * p), K(TA + p * p), norms(K + p * p) {}
};

constexpr int64_t padded_rank(int64_t r) { return (r + 7) / 8 * 8; }

// Numbers of scratch for a group of updates of rank up to r.
constexpr int64_t scratch_numbers(int64_t r) {
  const int64_t p = padded_rank(r);
  const int64_t sums = (p * p / 2 + 2 * p) * kLanes<double>, lanes = 2 * p * p * kLanes<double>;
  return sums + lanes + p * kTile + 2 * p * p + p + kLanes<double> * Triangles::numbers(p);
}

// R and R⁻¹ of one factor; false where it is worse conditioned than kappa, not finite, or of more
// directions than there is room for.
template <typename Stored>
JAXTASK_INLINE bool triangle(const Directions<Stored>& x, double kappa, double* tile, Float64s* sums,
                             const Triangles& out, double* R, double* inverse) {
  const int64_t r = x.r, p = padded_rank(r);
  if (r > kMostDirections) return false;
  fill(tile, tile + p * kTile, 0.0);
  gram(x.d, p, [&](int64_t start) { load_tile(x, start, tile); }, tile, sums, out.K);
  return cholesky(out.K, r, p, R, inverse, out.norms) < kappa;
}

// Writes U, V, s and rank, with x_k and y_k in the rows of X [r, lanes] and Y.
template <typename Stored>
JAXTASK_INLINE void finish(const Directions<Stored>& B, const Directions<Stored>& A,
                           const Update& update, const Triangles& in, const Float64s* X,
                           const Float64s* Y, int64_t lane, int64_t stride, double* tile,
                           double* memory) {
  const int64_t r = B.r, p = padded_rank(r);
  double *left = memory, *right = left + p * p, *s = right + p * p;
  int32_t rank = 0;
  for (int64_t k = 0; k < r; ++k) {
    double square = 0;
    for (int64_t i = 0; i < r; ++i) square += X[k * stride + i][lane] * X[k * stride + i][lane];
    s[k] = square_root(square);
    const bool live = s[k] > update.rtol * s[0] && s[k] > 0 && update.scale != 0;
    rank += live;
    if (!live) s[k] = 0;
  }
  // left[k, l] = Σ_i R_B⁻¹[l, i] x_k[i], and likewise on the right; the sign of the scale goes to V.
  const double sign = update.scale < 0 ? -1 : 1;
  fill(left, left + 2 * p * p, 0.0);
  for (int64_t k = 0; k < rank; ++k) {
    for (int64_t l = 0; l < r; ++l) {
      double x = 0, y = 0;
      for (int64_t i = l; i < r; ++i) {
        x += in.TB[l * p + i] * X[k * stride + i][lane];
        y += in.TA[l * p + i] * Y[k * stride + i][lane];
      }
      left[l * p + k] = x / s[k];
      right[l * p + k] = sign * y;
    }
  }
  for (int64_t k = 0; k < r; ++k) update.s[k] = static_cast<float>(s[k] * absolute(update.scale));
  *update.rank = rank;
  fill(tile, tile + p * kTile, 0.0);
  if (update.U) apply(B, p, left, tile, update.U);
  if (update.V) apply(A, p, right, tile, update.V);
}

// Factors up to as many updates as there are lanes. `fine` is 0 where nothing was written.
template <typename Stored>
JAXTASK_INLINE void factor_group(const Directions<Stored>* B, const Directions<Stored>* A,
                                 const Update* updates, int64_t count, double kappa, uint8_t* fine,
                                 double* memory) {
  int64_t r = 0;
  for (int64_t lane = 0; lane < count; ++lane) r = maximum(r, B[lane].r);
  const int64_t p = padded_rank(r);
  Float64s* sums = reinterpret_cast<Float64s*>(memory);
  Float64s *C = sums + p * p / 2 + 2 * p, *Y = C + p * p;
  double* tile = reinterpret_cast<double*>(Y + p * p);
  double *rest = tile + p * kTile, *own = rest + 2 * p * p + p;
  fill(C, C + r * r, Float64s{});
  const auto of = [&](int64_t lane) {
    return Triangles(own + lane * Triangles::numbers(p), padded_rank(B[lane].r));
  };
  // A first: B is what the last step reads, most of all.
  for (int64_t lane = 0; lane < count; ++lane) {
    const Triangles out = of(lane);
    fine[lane] = triangle(A[lane], kappa, tile, sums, out, out.RA, out.TA);
  }
  for (int64_t lane = 0; lane < count; ++lane) {
    const int64_t q = B[lane].r, width = padded_rank(q);
    const Triangles out = of(lane);
    fine[lane] = fine[lane] && triangle(B[lane], kappa, tile, sums, out, out.RB, out.TB);
    if (!fine[lane]) continue;
    // Rows of C are the columns of R_B R_Aᵀ, so that the rotated rows are s·x and Y holds y.
    for (int64_t j = 0; j < q; ++j) {
      for (int64_t i = 0; i < q; ++i) {
        double sum = 0;
        for (int64_t k = maximum(i, j); k < q; ++k) sum += out.RB[i * width + k] * out.RA[j * width + k];
        C[j * r + i][lane] = sum;
      }
    }
  }
  const bool converged = jacobi(C, Y, r);
  for (int64_t lane = count - 1; lane >= 0; --lane) {  // what was read last may still be in a cache
    fine[lane] &= converged;
    if (fine[lane]) finish(B[lane], A[lane], updates[lane], of(lane), C, Y, lane, r, tile, rest);
  }
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_FACTOR_H_
