// Products X·Yᵀ of matrices by rows, or the upper half of one where X is Y.
//
// A task is a panel of kPanel columns of the product by some rows. The rows of Y that make the panel
// are packed k-major, kDepth numbers of each at a time, so that they stay in the first two caches; the
// rows of X are read where they lie, since their cache lines run along k already: packing them as well
// was slower (after Goto and van de Geijn, ACM TOMS 34, 2008). Float32 numbers may be multiplied in
// float64.

#ifndef JAXTASK_NATIVE_PRODUCTS_H_
#define JAXTASK_NATIVE_PRODUCTS_H_

#include "lanes.h"

// Rows × vectors of columns that the registers hold, for those of 16 bytes unless told otherwise.
#if !defined(JAXTASK_TILE_ROWS)
#if defined(__aarch64__)
#define JAXTASK_TILE_ROWS 6
#else
#define JAXTASK_TILE_ROWS 3
#endif
#define JAXTASK_TILE_VECTORS 4
#endif

namespace jaxtask {
namespace {

constexpr int64_t kTileRows = JAXTASK_TILE_ROWS;
constexpr int64_t kTileVectors = JAXTASK_TILE_VECTORS;
constexpr int64_t kDepth = 512;

template <typename Scalar>
constexpr int64_t kTileColumns = kTileVectors * kLanes<Scalar>;

// About two hundred columns.
template <typename Scalar>
constexpr int64_t kPanel =
    kTileColumns<Scalar> * maximum<int64_t>(1, 192 / kTileColumns<Scalar>);

template <typename Stored, typename Scalar>
struct Product {
  const Stored *X, *Y;  // [rows, d], [columns, d]
  Scalar* out;          // [rows, columns]
  int64_t rows, columns, d;
  int64_t block;  // if not 0, only out[i, j] with i / block ≤ j / block need be there
};

// Rows [first, first + kTileColumns) of Y over [start, start + depth), k-major; zero beyond the last.
template <typename Stored, typename Scalar>
JAXTASK_INLINE void pack(const Product<Stored, Scalar>& p, int64_t first, int64_t start, int64_t depth,
                         Scalar* packed) {
  using V = Lanes<Scalar>;
  constexpr int64_t lanes = kLanes<Scalar>;
  for (int64_t v = 0; v < kTileVectors; ++v) {
    const Stored* rows[lanes];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      rows[lane] = p.Y + minimum(first + v * lanes + lane, p.columns - 1) * p.d + start;
    }
    V columns[kDepth];
    to_lanes(rows, depth, columns);
    for (int64_t k = 0; k < depth; ++k) {
      __builtin_memcpy(packed + k * kTileColumns<Scalar> + v * lanes, &columns[k], sizeof(V));
    }
  }
}

// Adds the products of kTileRows rows with one packed group of columns to `sums`.
template <typename Scalar>
JAXTASK_INLINE void multiply(const Scalar* const (&rows)[kTileRows], const Scalar* packed,
                             int64_t depth, Lanes<Scalar> (&sums)[kTileRows][kTileVectors]) {
  using V = Lanes<Scalar>;
  for (int64_t k = 0; k < depth; ++k) {
    V column[kTileVectors];
    for (int64_t v = 0; v < kTileVectors; ++v) {
      __builtin_memcpy(&column[v], packed + k * kTileColumns<Scalar> + v * kLanes<Scalar>, sizeof(V));
    }
    for (int64_t i = 0; i < kTileRows; ++i) {
      const Scalar x = rows[i][k];
      for (int64_t v = 0; v < kTileVectors; ++v) sums[i][v] += x * column[v];
    }
  }
}

// Rows [row, last_row) of a tile, of which another task may have those that follow. `rows` are those of X.
template <typename Stored, typename Scalar>
JAXTASK_INLINE void one_tile(const Product<Stored, Scalar>& p, const Scalar* const (&rows)[kTileRows],
                             int64_t row, int64_t last_row, int64_t column, int64_t start,
                             int64_t depth, const Scalar* packed) {
  using V = Lanes<Scalar>;
  constexpr int64_t width = kTileColumns<Scalar>;
  V sums[kTileRows][kTileVectors] = {};
  multiply(rows, packed, depth, sums);
  const int64_t height = minimum(kTileRows, last_row - row);
  const int64_t whole = minimum(width, p.columns - column);
  for (int64_t i = 0; i < height; ++i) {
    Scalar* to = p.out + (row + i) * p.columns + column;
    if (whole == width) {
      for (int64_t v = 0; v < kTileVectors; ++v) {
        V kept{};
        if (start > 0) __builtin_memcpy(&kept, to + v * kLanes<Scalar>, sizeof(V));
        kept += sums[i][v];
        __builtin_memcpy(to + v * kLanes<Scalar>, &kept, sizeof(V));
      }
    } else {
      Scalar edge[width];
      __builtin_memcpy(edge, sums[i], sizeof edge);
      for (int64_t j = 0; j < whole; ++j) to[j] = (start > 0 ? to[j] : Scalar(0)) + edge[j];
    }
  }
}

// Numbers of scratch for a task: a panel, and rows of X where they are not of the type computed in.
template <typename Scalar>
constexpr int64_t kPackedNumbers = (kPanel<Scalar> + kTileRows) * kDepth;

// The columns from `column` on, of rows [row, row + rows_at_once).
template <typename Stored, typename Scalar>
JAXTASK_INLINE void multiply_panel(const Product<Stored, Scalar>& p, int64_t row, int64_t rows_at_once,
                                   int64_t column, Scalar* packed) {
  constexpr int64_t width = kTileColumns<Scalar>;
  Scalar* wide = packed + kPanel<Scalar> * kDepth;
  const int64_t last_column = minimum(column + kPanel<Scalar>, p.columns);
  const int64_t needed = p.block ? ((last_column - 1) / p.block + 1) * p.block : p.rows;
  const int64_t last_row = minimum(minimum(row + rows_at_once, p.rows), needed);
  for (int64_t start = 0; start < p.d; start += kDepth) {
    const int64_t depth = minimum(kDepth, p.d - start);
    for (int64_t j = column; j < last_column; j += width) {
      pack(p, j, start, depth, packed + (j - column) * kDepth);
    }
    for (int64_t i = row; i < last_row; i += kTileRows) {
      const Scalar* rows[kTileRows];
      for (int64_t k = 0; k < kTileRows; ++k) {
        const Stored* from = p.X + minimum(i + k, p.rows - 1) * p.d + start;
        if constexpr (std::is_same_v<Stored, Scalar>) {
          rows[k] = from;
        } else {
          for (int64_t at = 0; at < depth; ++at) wide[k * kDepth + at] = static_cast<Scalar>(from[at]);
          rows[k] = wide + k * kDepth;
        }
      }
      for (int64_t j = column; j < last_column; j += width) {
        if (p.block && (j + width - 1) / p.block < i / p.block) continue;
        one_tile(p, rows, i, last_row, j, start, depth, packed + (j - column) * kDepth);
      }
    }
  }
}

}  // namespace
}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_PRODUCTS_H_
