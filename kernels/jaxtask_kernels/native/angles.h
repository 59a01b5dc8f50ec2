// How pairs of subspaces lie, from their orthonormal bases by rows and the Gram blocks G = X Yᵀ of these:
// cosines and sines of the principal angles, and what of each basis lies outside the other's space.
//
// Up to the cosine kNear, all of it follows from G in float32. Where one is larger, I − GᵀG cancels, and
// the blocks are computed again in float64:
//
//   C = X Yᵀ,  S = Y (I − P_X) Yᵀ = Y Yᵀ − Cᵀ (X Xᵀ)⁻¹ C,  sines = sqrt(singular values of S)
//
// X is orthonormal to float32's rounding only; with E = X Xᵀ − I, (X Xᵀ)⁻¹ = I − E + E² to float64's.

#ifndef JAXTASK_NATIVE_ANGLES_H_
#define JAXTASK_NATIVE_ANGLES_H_

#include "factor.h"
#include "limits.h"
#include "products.h"
#include "singular_values.h"
#include "variants.h"

namespace jaxtask {
namespace {

// --------------------------------------------------------------------------- all pairs, in float32

// out [r, r] = I − GᵀG on the first `rank` directions, G [r, r] zero beyond them.
JAXTASK_INLINE void complement(const float* G, int64_t r, int64_t rank, float* out) {
  fill(out, out + r * r, 0.0f);
  for (int64_t l = 0; l < rank; ++l) out[l * r + l] = 1;
  for (int64_t k = 0; k < r; ++k) {
    const float* row = G + k * r;
    for (int64_t l = 0; l < r; ++l) {
      for (int64_t m = 0; m < r; ++m) out[l * r + m] -= row[l] * row[m];
    }
  }
}

// Bytes of scratch for `angles_of_block`.
constexpr int64_t angle_scratch(int64_t r) {
  const int64_t numbers = (kMatricesAtOnce<float> + 1) * r * r;
  return scratch_vectors(r) * kVectorBytes + numbers * sizeof(float);
}

// Pairs [first, first + count), count ≤ kMatricesAtOnce<float>; says which of them are near, whose sines
// and what lies outside are still to come.
JAXTASK_INLINE void angles_of_block(const PairsOf& all, int64_t first, int64_t count, void* scratch) {
  const int64_t r = all.r;
  auto* vectors = static_cast<Lanes<float>*>(scratch);
  auto* G = reinterpret_cast<float*>(vectors + scratch_vectors(r));
  float *turned = G + kMatricesAtOnce<float> * r * r, *cosines = all.cosines + first * r;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < r; ++k) {
      const float* row = all.gram + ((all.a[first + i] * r + k) * all.t + all.b[first + i]) * r;
      copy(row, row + r, G + (i * r + k) * r);
    }
  }
  singular_values_of_block<float, float>(G, cosines, count, r, all.sweeps, vectors);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t pair = first + i;
    const int64_t rank_x = all.rank_x[all.a[pair]], rank_y = all.rank_y[all.b[pair]];
    const bool same = all.same[pair];
    all.near[pair] = !same && cosines[i * r] > kNear;
    for (int64_t k = 0; k < r; ++k) {
      const float c = cosines[i * r + k];
      const bool itself = same && k < rank_y;
      all.sines[pair * r + k] = itself ? 0.0f : square_root(maximum((1 - c) * (1 + c), 0.0f));
    }
    if (!all.there || all.near[pair]) continue;
    float *there = all.there + pair * r * r, *back = all.back + pair * r * r;
    if (same) {
      fill(there, there + r * r, 0.0f);
      fill(back, back + r * r, 0.0f);
      continue;
    }
    const float* own = G + i * r * r;
    for (int64_t k = 0; k < r; ++k) {
      for (int64_t l = 0; l < r; ++l) turned[l * r + k] = own[k * r + l];
    }
    complement(own, r, rank_y, there);
    complement(turned, r, rank_x, back);
  }
}

// --------------------------------------------------------------------------- near pairs, in float64

// K [p, p] = X Xᵀ of one basis [r, d], p = r rounded up to 8.
JAXTASK_INLINE void products_within(const float* X, int64_t r, int64_t d, double* K, double* tile,
                                    Float64s* sums) {
  const int64_t p = padded_rank(r);
  const Directions<float> x{X, d, r, 1, d};
  fill(tile, tile + p * kTile, 0.0);
  gram(d, p, [&](int64_t start) { load_tile(x, start, tile); }, tile, sums, K);
}

// out [p, p] −= A·B, or Aᵀ·B.
template <bool turned>
JAXTASK_INLINE void subtract_product(const double* A, const double* B, int64_t p, double* out) {
  for (int64_t k = 0; k < p; ++k) {
    for (int64_t j = 0; j < p; j += kLanes<double>) {
      Float64s sum = load(out + k * p + j);
      for (int64_t l = 0; l < p; ++l) sum -= A[turned ? l * p + k : k * p + l] * load(B + l * p + j);
      __builtin_memcpy(out + k * p + j, &sum, sizeof sum);
    }
  }
}

// S [p, p] = Y (I − P_X) Yᵀ from C = X Yᵀ, K_X = X Xᵀ and K_Y = Y Yᵀ; scratch is 3p² numbers.
JAXTASK_INLINE void outside(const double* C, const double* KX, const double* KY, int64_t p, double* S,
                            double* scratch) {
  double *E = scratch, *EC = E + p * p, *solved = EC + p * p;
  copy(KX, KX + p * p, E);
  for (int64_t k = 0; k < p; ++k) E[k * p + k] -= KX[k * p + k] > 0.5;  // 0 where there is no direction
  fill(EC, EC + p * p, 0.0);
  subtract_product<false>(E, C, p, EC);
  for (int64_t i = 0; i < p * p; ++i) solved[i] = C[i] + EC[i];
  subtract_product<false>(E, EC, p, solved);
  copy(KY, KY + p * p, S);
  subtract_product<true>(C, solved, p, S);
}

// Bytes of scratch for `products_within` and `near_angles_of_block`.
constexpr int64_t near_angle_scratch(int64_t r) {
  const int64_t p = padded_rank(r), pairs = kMatricesAtOnce<double>;
  const int64_t vectors = maximum(scratch_vectors(r), p * p);
  const int64_t numbers = maximum(kPackedNumbers<double>, p * kTile) + 6 * p * p + (pairs + 1) * r * r;
  return vectors * kVectorBytes + (numbers + pairs * r) * sizeof(double);
}

// The pairs that are listed in `index` [count], count ≤ kMatricesAtOnce<double>; with the products
// [s, r, t, r] of all of them, or null to compute their own, to the same bits.
JAXTASK_INLINE void near_angles_of_block(const PairsOf& all, const double* KX, const double* KY,
                                         const double* products, const int64_t* index, int64_t count,
                                         void* scratch) {
  const int64_t r = all.r, d = all.d, p = padded_rank(r);
  auto* vectors = static_cast<Float64s*>(scratch);
  auto* packed = reinterpret_cast<double*>(vectors + maximum(scratch_vectors(r), p * p));
  double *C = packed + maximum(kPackedNumbers<double>, p * kTile), *turned = C + p * p;
  double *S = turned + p * p, *rest = S + p * p, *own = rest + 3 * p * p;
  double *outer = own + r * r, *squares = outer + kMatricesAtOnce<double> * r * r;
  const auto narrow = [&](float* to) {
    for (int64_t k = 0; k < r; ++k) {
      for (int64_t l = 0; l < r; ++l) to[k * r + l] = static_cast<float>(S[k * p + l]);
    }
  };
  for (int64_t i = 0; i < count; ++i) {
    const int64_t pair = index[i], a = all.a[pair], b = all.b[pair];
    const double *of_x = KX + a * p * p, *of_y = KY + b * p * p;
    if (!products) {
      multiply_panel(Product<float, double>{all.X + a * r * d, all.Y + b * r * d, own, r, r, d, 0}, 0, r,
                     0, packed);
    }
    const double* block = products ? products + (a * r * all.t + b) * r : own;
    fill(C, C + p * p, 0.0);
    for (int64_t k = 0; k < r; ++k) {
      const double* row = block + k * (products ? all.t * r : r);
      copy(row, row + r, C + k * p);
    }
    if (all.there) {
      for (int64_t k = 0; k < p; ++k) {
        for (int64_t l = 0; l < p; ++l) turned[l * p + k] = C[k * p + l];
      }
      outside(turned, of_y, of_x, p, S, rest);
      narrow(all.back + pair * r * r);
    }
    outside(C, of_x, of_y, p, S, rest);
    if (all.there) narrow(all.there + pair * r * r);
    for (int64_t l = all.rank_y[b]; l < r; ++l) S[l * p + l] += 1;  // what pads Y has sines of 1
    for (int64_t k = 0; k < r; ++k) copy(S + k * p, S + k * p + r, outer + (i * r + k) * r);
  }
  singular_values_of_block<double, double>(outer, squares, count, r, all.sweeps, vectors);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < r; ++k) {
      const double square = squares[i * r + r - 1 - k];
      all.sines[index[i] * r + k] = static_cast<float>(square_root(square));
    }
  }
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_ANGLES_H_
