// What Python sees: XLA's FFI handlers for singular values and angles, and plain C functions for ctypes.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "limits.h"
#include "threads.h"
#include "variants.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jaxtask {
namespace {

const Kernels& kernels() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const Kernels& chosen = [&]() -> const Kernels& {
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512cd");
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    // A lower level on request, so that it can be tested where a higher one is there.
    const char* wanted = std::getenv("JAXTASK_NATIVE");
    const bool baseline = wanted && !std::strcmp(wanted, "baseline");
    const bool no_more = baseline || (wanted && !std::strcmp(wanted, "avx2"));
    return avx512 && !no_more ? kAvx512 : avx2 && !baseline ? kAvx2 : kBaseline;
  }();
  return chosen;
#else
  return kBaseline;
#endif
}

// kernel(first, how many, scratch) for `count` things, up to `block` at a time, on the threads of XLA's
// pool, of which each takes `size` (whole blocks) at a time.
template <typename Kernel>
void in_blocks(ffi::ThreadPool& pool, int64_t count, int64_t size, int64_t block, int64_t scratch_bytes,
               const Kernel& kernel) {
  const auto work = [&](int64_t piece) {
    void* scratch = thread_scratch(scratch_bytes);
    const int64_t end = std::min(count, (piece + 1) * size);
    for (int64_t i = piece * size; i < end; i += block) kernel(i, std::min(block, end - i), scratch);
  };
  const auto schedule = [&](auto job) { pool.Schedule(std::move(job)); };
  run_pieces((count + size - 1) / size, pool.num_threads() - 1, schedule, work);
}

// --------------------------------------------------------------------------- products

struct ProductTask {
  int64_t row, rows, column, size;
};

// Enough tasks that all threads end at about the same time, and the largest first.
std::vector<ProductTask> product_tasks(const ProductOf& product, int64_t panel, int64_t threads) {
  const auto [rows, columns, block] = std::tuple(product.rows, product.columns, product.block);
  int64_t height = 512;
  if ((columns / panel + 1) * (rows / height + 1) < 4 * threads) height /= 2;
  std::vector<ProductTask> tasks;
  for (int64_t column = 0; column < columns; column += panel) {
    const int64_t needed = block ? (column + panel - 1) / block * block + block : rows;
    const int64_t last = std::min(needed, rows);
    for (int64_t row = 0; row < last; row += height) {
      const int64_t size = std::min(height, last - row) * std::min(panel, columns - column);
      tasks.push_back({row, height, column, size});
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const ProductTask& a, const ProductTask& b) { return a.size > b.size; });
  return tasks;
}

// --------------------------------------------------------------------------- what comes in

using Shape = ffi::Span<const int64_t>;

template <typename Sizes>
std::string shown(const Sizes& sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "[" : ", ") + std::to_string(size);
  return text.empty() ? "[]" : text + "]";
}

struct Buffer {
  const char* name;
  Shape shape;
  std::vector<int64_t> expected;
};

// An error that names the first buffer of another shape than the kernels rely on.
ffi::Error check_shapes(std::initializer_list<Buffer> buffers) {
  for (const Buffer& buffer : buffers) {
    const auto& [name, shape, expected] = buffer;
    if (!std::equal(shape.begin(), shape.end(), expected.begin(), expected.end())) {
      return ffi::Error::InvalidArgument(std::string(name) + " is " + shown(shape) + ", expected " +
                                         shown(expected));
    }
  }
  return ffi::Error::Success();
}

// An error for matrices larger than the kernels' arrays of fixed size.
ffi::Error check_size(int64_t n) {
  if (n <= kLargest) return ffi::Error::Success();
  return ffi::Error::InvalidArgument("matrices of n = " + std::to_string(n) +
                                     " rows, expected n <= " + std::to_string(kLargest));
}

// An error for the first of the numbers that is not in [0, end).
ffi::Error check_range(const char* name, ffi::Buffer<ffi::S32>& numbers, int64_t end) {
  for (const int32_t* x = numbers.typed_data(); x != numbers.typed_data() + numbers.element_count(); ++x) {
    if (*x >= 0 && *x < end) continue;
    return ffi::Error::InvalidArgument(std::string(name) + " has " + std::to_string(*x) +
                                       ", expected 0 to " + std::to_string(end - 1));
  }
  return ffi::Error::Success();
}

// --------------------------------------------------------------------------- singular values

// Matrices of one piece of work: enough to be worth a thread.
int64_t piece_size(int64_t n, int64_t block) {
  return block * std::max<int64_t>(1, 8 * 1024 / (n * n * block));
}

template <ffi::DataType type, typename Kernel>
ffi::Error handle(ffi::ThreadPool& pool, ffi::Buffer<type>& matrices,
                  ffi::Result<ffi::Buffer<type>>& values, int64_t sweeps, int64_t block,
                  Kernel kernel) {
  const Shape shape = matrices.dimensions();
  if (shape.size() < 2 || shape[shape.size() - 1] != shape[shape.size() - 2]) {
    return ffi::Error::InvalidArgument("matrices are " + shown(shape) + ", expected [..., n, n]");
  }
  const int64_t n = shape[shape.size() - 1];
  if (ffi::Error error = check_size(n); error.failure()) return error;
  const std::vector<int64_t> expected(shape.begin(), shape.end() - 1);
  if (ffi::Error error = check_shapes({{"values", values->dimensions(), expected}}); error.failure()) {
    return error;
  }
  if (n == 0 || matrices.element_count() == 0) return ffi::Error::Success();
  const int64_t count = static_cast<int64_t>(matrices.element_count()) / (n * n);
  const auto* from = matrices.typed_data();
  auto* to = values->typed_data();
  in_blocks(pool, count, piece_size(n, block), block, kernels().singular_values_scratch(n),
            [&](int64_t i, int64_t some, void* scratch) {
              kernel(from + i * n * n, to + i * n, some, n, sweeps, scratch);
            });
  return ffi::Error::Success();
}

ffi::Error singular_values_f32(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> matrices,
                               ffi::Result<ffi::Buffer<ffi::F32>> values, int64_t sweeps) {
  return handle(pool, matrices, values, sweeps, kernels().block_f32, kernels().singular_values_f32);
}

ffi::Error singular_values_f64(ffi::ThreadPool pool, ffi::Buffer<ffi::F64> matrices,
                               ffi::Result<ffi::Buffer<ffi::F64>> values, int64_t sweeps) {
  return handle(pool, matrices, values, sweeps, kernels().block_f64, kernels().singular_values_f64);
}

// --------------------------------------------------------------------------- angles

// X Xᵀ of so many bases [r, d] → [count, p, p].
std::vector<double> products_within(ffi::ThreadPool& pool, const float* X, int64_t count, int64_t r,
                                    int64_t d) {
  const int64_t p = kernels().padded_rank(r);
  std::vector<double> products(count * p * p);
  in_blocks(pool, count, 1, 1, kernels().near_angle_scratch(r), [&](int64_t i, int64_t, void* scratch) {
    kernels().products_within(X + i * r * d, r, d, products.data() + i * p * p, scratch);
  });
  return products;
}

// X Yᵀ of all bases in float64, [s, r, t, r]; with `upper`, of X and itself, only for s ≤ t.
std::vector<double> products_between(ffi::ThreadPool& pool, const PairsOf& pairs, int64_t s, bool upper) {
  std::vector<double> products(s * pairs.r * pairs.t * pairs.r);
  const ProductOf product{pairs.X,           pairs.Y,           products.data(),
                          s * pairs.r,       pairs.t * pairs.r, pairs.d,
                          upper ? pairs.r : 0};
  const auto tasks = product_tasks(product, kernels().panel_f64, pool.num_threads());
  in_blocks(pool, tasks.size(), 1, 1, kernels().product_scratch, [&](int64_t i, int64_t, void* scratch) {
    kernels().product_wide(product, tasks[i].row, tasks[i].rows, tasks[i].column, scratch);
  });
  return products;
}

// there and back are [0] where they are not wanted.
ffi::Error angles(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> X, ffi::Buffer<ffi::F32> Y,
                  ffi::Buffer<ffi::F32> gram, ffi::Buffer<ffi::S32> rank_x,
                  ffi::Buffer<ffi::S32> rank_y, ffi::Buffer<ffi::S32> a, ffi::Buffer<ffi::S32> b,
                  ffi::Buffer<ffi::PRED> same, ffi::Result<ffi::Buffer<ffi::F32>> cosines,
                  ffi::Result<ffi::Buffer<ffi::F32>> sines, ffi::Result<ffi::Buffer<ffi::F32>> there,
                  ffi::Result<ffi::Buffer<ffi::F32>> back, int64_t sweeps) {
  const Shape shape = Y.dimensions();
  if (shape.size() != 3 || X.dimensions().size() != 3) {
    return ffi::Error::InvalidArgument("X is " + shown(X.dimensions()) + " and Y is " + shown(shape) +
                                       ", expected [s, r, d] and [t, r, d]");
  }
  const int64_t s = X.dimensions()[0], t = shape[0], r = shape[1], d = shape[2];
  const int64_t count = a.element_count(), block = kernels().block_f32, few = kernels().block_f64;
  const bool outside = there->element_count() > 0;
  const auto square = outside ? std::vector<int64_t>{count, r, r} : std::vector<int64_t>{0};
  for (ffi::Error error : {check_size(r),
                           check_shapes({{"X", X.dimensions(), {s, r, d}},
                                         {"gram", gram.dimensions(), {s, r, t, r}},
                                         {"ranks of X", rank_x.dimensions(), {s}},
                                         {"ranks of Y", rank_y.dimensions(), {t}},
                                         {"a", a.dimensions(), {count}},
                                         {"b", b.dimensions(), {count}},
                                         {"same", same.dimensions(), {count}},
                                         {"cosines", cosines->dimensions(), {count, r}},
                                         {"sines", sines->dimensions(), {count, r}},
                                         {"there", there->dimensions(), square},
                                         {"back", back->dimensions(), square}}),
                           check_range("ranks of X", rank_x, r + 1),
                           check_range("ranks of Y", rank_y, r + 1),
                           check_range("a", a, s),
                           check_range("b", b, t)}) {
    if (error.failure()) return error;
  }
  if (r == 0) return ffi::Error::Success();
  std::vector<uint8_t> is_near(count);
  const PairsOf pairs{X.typed_data(),
                      Y.typed_data(),
                      gram.typed_data(),
                      rank_x.typed_data(),
                      rank_y.typed_data(),
                      a.typed_data(),
                      b.typed_data(),
                      reinterpret_cast<const uint8_t*>(same.typed_data()),
                      t,
                      r,
                      d,
                      sweeps,
                      cosines->typed_data(),
                      sines->typed_data(),
                      outside ? there->typed_data() : nullptr,
                      outside ? back->typed_data() : nullptr,
                      is_near.data()};
  in_blocks(pool, count, 2 * block, block, kernels().angle_scratch(pairs.r),
            [&](int64_t i, int64_t some, void* scratch) { kernels().angles(pairs, i, some, scratch); });

  const bool one = pairs.X == pairs.Y;
  bool upper = one;
  std::vector<int64_t> near;
  for (int64_t i = 0; i < count; ++i) {
    if (!is_near[i]) continue;
    near.push_back(i);
    upper = upper && pairs.a[i] <= pairs.b[i];
  }
  if (near.empty()) return ffi::Error::Success();
  const auto of_x = products_within(pool, pairs.X, s, pairs.r, pairs.d);
  const auto of_y = one ? std::vector<double>() : products_within(pool, pairs.Y, pairs.t, pairs.r, pairs.d);
  // All products at once go at a higher rate than those of single pairs, if most are needed.
  const int64_t all = upper ? s * (s + 1) / 2 : s * pairs.t;
  std::vector<double> products;
  if (static_cast<int64_t>(near.size()) > all / 2) products = products_between(pool, pairs, s, upper);
  in_blocks(pool, near.size(), few, few, kernels().near_angle_scratch(pairs.r),
            [&](int64_t i, int64_t some, void* scratch) {
              kernels().near_angles(pairs, of_x.data(), (one ? of_x : of_y).data(),
                                    products.empty() ? nullptr : products.data(), near.data() + i, some,
                                    scratch);
            });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxtask

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxtask_angles, jaxtask::angles,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("sweeps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxtask_singular_values_f32, jaxtask::singular_values_f32,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("sweeps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxtask_singular_values_f64, jaxtask::singular_values_f64,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>()
                                  .Attr<int64_t>("sweeps"));

extern "C" {

const char* jaxtask_variant() { return jaxtask::kernels().name; }

// The version of XLA's foreign function interface that the handlers are built for.
int jaxtask_interface_major() { return XLA_FFI_API_MAJOR; }
int jaxtask_interface_minor() { return XLA_FFI_API_MINOR; }

// Factors n updates on so many threads.
void jaxtask_factor(int64_t n, int64_t itemsize, const void* const* B, const void* const* A,
                   const int64_t* ranks, const double* scale, const double* rtol, int64_t d_out,
                   int64_t d_in, int64_t r, double kappa, float* U, float* V, float* s, int32_t* rank,
                   uint8_t* fine, int64_t threads) {
  using namespace jaxtask;
  const Updates updates{B, A, ranks, scale, rtol, d_out, d_in, r, kappa, U, V, s, rank, fine};
  const auto factor = itemsize == 4 ? kernels().factor_f32 : kernels().factor_f64;
  const int64_t group = std::min(kernels().group, (n + threads - 1) / threads);
  Pool::get().run((n + group - 1) / group, threads, [&](int64_t i) {
    factor(updates, i * group, std::min(group, n - i * group),
           thread_scratch(kernels().factor_scratch(r)));
  });
}

// out = X·Yᵀ on so many threads, or its upper half in blocks.
void jaxtask_product(int64_t itemsize, const void* X, const void* Y, void* out, int64_t rows,
                    int64_t columns, int64_t d, int64_t block, int64_t threads) {
  using namespace jaxtask;
  const ProductOf product{X, Y, out, rows, columns, d, block};
  const auto multiply = itemsize == 4 ? kernels().product_f32 : kernels().product_f64;
  const int64_t panel = itemsize == 4 ? kernels().panel_f32 : kernels().panel_f64;
  const auto tasks = product_tasks(product, panel, threads);
  Pool::get().run(tasks.size(), threads, [&](int64_t i) {
    multiply(product, tasks[i].row, tasks[i].rows, tasks[i].column,
             thread_scratch(kernels().product_scratch));
  });
}
}
