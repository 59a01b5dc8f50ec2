// The entry points of the numerical kernels, compiled once for each level of x86.

#ifndef JAXTASK_NATIVE_VARIANTS_H_
#define JAXTASK_NATIVE_VARIANTS_H_

#include <cstdint>

namespace jaxtask {

// Updates [n] with B [d_out, r_i] and A [r_i, d_in], row-major; see factor.h.
struct Updates {
  const void *const *B, *const *A;
  const int64_t* ranks;  // [n] columns of each B
  const double *scale, *rtol;
  int64_t d_out, d_in, r;  // r is the rank that the results are padded to
  double kappa;
  float *U, *V, *s;  // [n, r, d_out] or null, [n, r, d_in] or null, [n, r]
  int32_t* rank;     // [n]
  uint8_t* fine;     // [n] 0 where the results are not there
};

// out [rows, columns] = X [rows, d] · Y [columns, d]ᵀ; see products.h.
struct ProductOf {
  const void *X, *Y;
  void* out;
  int64_t rows, columns, d;
  int64_t block;
};

// Pairs (a, b) of bases X [s, r, d] and Y [t, r, d] with gram [s, r, t, r]; see angles.h. Rows of a basis
// from its rank on are zero. Of a pair that is `same` nothing lies outside, by definition.
struct PairsOf {
  const float *X, *Y, *gram;
  const int32_t *rank_x, *rank_y, *a, *b;
  const uint8_t* same;
  int64_t t, r, d, sweeps;
  float *cosines, *sines;  // [pairs, r], descending and ascending
  float *there, *back;     // [pairs, r, r] of Y outside X and of X outside Y, or null
  uint8_t* near;           // [pairs] the pair needs float64
};

struct Kernels {
  const char* name;
  int64_t block_f32, block_f64;  // matrices in a block of singular_values
  // matrices [count, n, n] → [count, n]; scratch for one block.
  void (*singular_values_f32)(const float*, float*, int64_t count, int64_t n, int64_t sweeps, void*);
  void (*singular_values_f64)(const double*, double*, int64_t, int64_t, int64_t, void*);
  int64_t (*singular_values_scratch)(int64_t n);  // bytes, aligned to 64
  int64_t group;  // most updates that go through the factor stage together
  void (*factor_f32)(const Updates&, int64_t first, int64_t count, void* scratch);
  void (*factor_f64)(const Updates&, int64_t first, int64_t count, void* scratch);
  int64_t (*factor_scratch)(int64_t r);
  int64_t panel_f32, panel_f64;  // columns in one task of a product
  void (*product_f32)(const ProductOf&, int64_t row, int64_t rows, int64_t column, void* scratch);
  void (*product_f64)(const ProductOf&, int64_t row, int64_t rows, int64_t column, void* scratch);
  // Of float32 numbers in float64, in panels as product_f64.
  void (*product_wide)(const ProductOf&, int64_t row, int64_t rows, int64_t column, void* scratch);
  void (*angles)(const PairsOf&, int64_t first, int64_t count, void* scratch);  // up to block_f32
  int64_t (*angle_scratch)(int64_t r);
  int64_t (*padded_rank)(int64_t r);
  // X [r, d] → X Xᵀ [padded r, padded r], and up to block_f64 near pairs given those of all bases and
  // perhaps the products of all pairs, [s, r, t, r].
  void (*products_within)(const float* X, int64_t r, int64_t d, double* K, void* scratch);
  void (*near_angles)(const PairsOf&, const double* KX, const double* KY, const double* products,
                      const int64_t* index, int64_t count, void* scratch);
  int64_t (*near_angle_scratch)(int64_t r);  // for both
  int64_t product_scratch;
};

extern const Kernels kBaseline;
#if defined(__x86_64__) && defined(__GNUC__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_VARIANTS_H_
