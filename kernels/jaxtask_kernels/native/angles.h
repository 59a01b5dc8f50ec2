// Cosines and sines of the principal angles of pairs of bases, given by rows with their Gram blocks.
//
// A sine from its cosine is as good as any up to the cosine `kNear`. For the pairs that have larger ones
// the sines are the singular values of R = Y − (X Yᵀ)ᵀ X, from R Rᵀ in float64.

#ifndef JAXTASK_NATIVE_ANGLES_H_
#define JAXTASK_NATIVE_ANGLES_H_

#include "factor.h"
#include "singular_values.h"

namespace jaxtask {
namespace {

constexpr float kNear = 0.95f;

// Bases X [s, r, d] and Y [t, r, d] by rows, zero from their rank on, and gram [s, r, t, r].
struct Bases {
  const float *X, *Y, *gram;
  const int32_t* rank;  // [t] of Y
  int64_t t, r, d;
};

// K [p, p] = R Rᵀ for a pair with Gram block G [r, r], and one on the diagonal for what pads Y, whose
// sines are to be 1.
JAXTASK_INLINE void residual_gram(const Bases& bases, int64_t a, int64_t b, const float* G, double* tile,
                                  Float64s* sums, double* K) {
  const int64_t r = bases.r, d = bases.d, p = padded_rank(r);
  const float *X = bases.X + a * r * d, *Y = bases.Y + b * r * d;
  fill(tile, tile + p * kTile, 0.0);
  const auto load = [&](int64_t start) {
    const int64_t count = minimum(kTile, d - start);
    for (int64_t l = 0; l < r; ++l) {
      double* row = tile + l * kTile;
      for (int64_t i = 0; i < count; ++i) row[i] = Y[l * d + start + i];
      for (int64_t k = 0; k < r; ++k) {
        const float* x = X + k * d + start;
        const double g = G[k * r + l];
        for (int64_t i = 0; i < count; ++i) row[i] -= g * x[i];
      }
      fill(row + count, row + kTile, 0.0);
    }
  };
  gram(d, p, load, tile, sums, K);
  for (int64_t l = bases.rank[b]; l < r; ++l) K[l * p + l] += 1;
}

// Bytes of scratch.
constexpr int64_t angle_scratch(int64_t r) {
  const int64_t p = padded_rank(r), pairs = kMatricesAtOnce<float>;
  const int64_t vectors = scratch_vectors(r) + p * p / 2 + 2 * p;
  const int64_t numbers = p * kTile + p * p + pairs * (r * r + r);
  return vectors * kVectorBytes + numbers * sizeof(double) + pairs * r * r * sizeof(float);
}

// cosines, sines [count, r], descending and ascending, of the pairs (a, b); sines of a pair that is
// `same` are 0 where it has a direction. No more pairs than kMatricesAtOnce<float>.
JAXTASK_INLINE void angles_of_block(const Bases& bases, const int32_t* a, const int32_t* b,
                                    const uint8_t* same, int64_t count, int64_t sweeps, float* cosines,
                                    float* sines, void* scratch) {
  const int64_t r = bases.r, p = padded_rank(r);
  auto* vectors = static_cast<Lanes<float>*>(scratch);
  auto* sums = reinterpret_cast<Float64s*>(vectors + scratch_vectors(r));
  auto* tile = reinterpret_cast<double*>(sums + p * p / 2 + 2 * p);
  double *K = tile + p * kTile, *near = K + p * p, *squares = near + kMatricesAtOnce<float> * r * r;
  auto* G = reinterpret_cast<float*>(squares + kMatricesAtOnce<float> * r);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < r; ++k) {
      const float* row = bases.gram + ((a[i] * r + k) * bases.t + b[i]) * r;
      copy(row, row + r, G + (i * r + k) * r);
    }
  }
  singular_values_of_block<float, float>(G, cosines, count, r, sweeps, vectors);
  int64_t found = 0, index[kMatricesAtOnce<float>];
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < r; ++k) {
      const float c = cosines[i * r + k];
      const bool itself = same[i] && k < bases.rank[b[i]];
      sines[i * r + k] = itself ? 0.0f : square_root(maximum((1 - c) * (1 + c), 0.0f));
    }
    if (same[i] || !(cosines[i * r] > kNear)) continue;
    residual_gram(bases, a[i], b[i], G + i * r * r, tile, sums, K);
    for (int64_t k = 0; k < r; ++k) copy(K + k * p, K + k * p + r, near + (found * r + k) * r);
    index[found++] = i;
  }
  for (int64_t first = 0; first < found; first += kMatricesAtOnce<double>) {
    const int64_t some = minimum<int64_t>(kMatricesAtOnce<double>, found - first);
    singular_values_of_block<double, double>(near + first * r * r, squares + first * r, some, r, sweeps,
                                             reinterpret_cast<Float64s*>(vectors));
  }
  for (int64_t i = 0; i < found; ++i) {
    for (int64_t k = 0; k < r; ++k) {
      sines[index[i] * r + k] = static_cast<float>(square_root(squares[i * r + r - 1 - k]));
    }
  }
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_ANGLES_H_
