// Drives every native kernel at every level of instructions that this processor has, on buffers of
// exactly the right size. Compiled with sanitizers by `make sanitize`, which watch what it touches; what
// it checks by itself is only that results are plausible: the tests compare them with right ones.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "limits.h"
#include "threads.h"
#include "variants.h"

namespace {

using jaxtask::Kernels;

std::mt19937_64 bits(0);
double normal() { return std::normal_distribution<double>()(bits); }
int64_t below(int64_t n) { return static_cast<int64_t>(bits() % n); }

void expect(bool holds, const char* what, const char* level, int64_t n) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s at size %lld\n", level, what, static_cast<long long>(n));
  std::exit(1);
}

// Freed and asked for at each use, so that one byte too far is found.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : memory_(std::aligned_alloc(64, (bytes + 63) / 64 * 64)) {}
  ~Scratch() { std::free(memory_); }
  void* get() { return memory_; }

 private:
  void* memory_;
};

// A matrix [n, n] of one of many sorts.
template <typename Scalar>
void fill_in(Scalar* G, int64_t n, int64_t sort) {
  using Limits = std::numeric_limits<Scalar>;
  const int64_t whole = sort % 11;
  const double sizes[] = {1, 1, Limits::max(), Limits::min(), Limits::denorm_min() * 50, 1e-6, 1e3};
  const double size = sizes[sort / 11 % 7];
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double x = normal();
      if (whole == 1) x = i == j;
      if (whole == 2) x = 0;
      if (whole == 3) x = 1;
      if (whole == 4) x *= std::exp2(-3.0 * i);
      if (whole == 5) x *= std::exp2(-3.0 * (n - i));
      if (whole == 6) x *= i % 2 && j % 3;
      if (whole == 7) x = i + 1 == j;
      if (whole == 8) x = (i == j) + 1e-6 * x;
      if (whole == 9) x = std::exp2(-20 * std::abs(x));
      G[i * n + j] = static_cast<Scalar>(std::clamp(x, -1.0, 1.0) * size);
    }
  }
  const Scalar broken[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()};
  if (whole == 10) G[below(n * n)] = broken[below(3)];
}

template <typename Scalar, typename Solve>
void singular_values(const Kernels& kernels, Solve solve, int64_t block, int64_t n) {
  for (const int64_t sweeps : {30 * (n + 1), int64_t{0}}) {
    const int64_t count = 1 + below(block);
    std::vector<Scalar> G(count * n * n), values(count * n);
    for (int64_t i = 0; i < count; ++i) fill_in(G.data() + i * n * n, n, below(77));
    Scratch scratch(kernels.singular_values_scratch(n));
    solve(G.data(), values.data(), count, n, sweeps, scratch.get());
    for (int64_t i = 0; i < count; ++i) {
      long double entries = 0, found = 0;
      double largest = 0;
      for (int64_t k = 0; k < n * n; ++k) {
        const long double x = G[i * n * n + k];
        entries += x * x;
        if (!(std::abs(G[i * n * n + k]) <= largest)) largest = std::abs(G[i * n * n + k]);
      }
      for (int64_t k = 0; k < n; ++k) {
        const Scalar value = values[i * n + k];
        found += static_cast<long double>(value) * value;
        const bool nan = !std::isfinite(static_cast<double>(entries)) && std::isnan(value);
        if (!std::isfinite(largest)) {
          expect(std::isnan(value), "not NaN for what is not finite", kernels.name, n);
        } else {
          expect(nan || value >= 0, "a value below zero, or NaN", kernels.name, n);
          expect(nan || k == 0 || value <= values[i * n + k - 1], "out of order", kernels.name, n);
        }
      }
      const long double least = static_cast<long double>(std::numeric_limits<Scalar>::min()) * n;
      if (!std::isfinite(largest) || !std::isfinite(values[i * n])) continue;
      expect(std::abs(std::sqrt(found) - std::sqrt(entries)) <= 1e-4L * std::sqrt(entries) + least,
             "squares do not sum to the matrix's", kernels.name, n);
    }
  }
}

template <typename Stored, typename Factor>
void factor(const Kernels& kernels, Factor run, int64_t r) {
  const int64_t count = 1 + below(kernels.group), d_out = r + below(90), d_in = r + below(90);
  std::vector<std::vector<Stored>> factors;
  std::vector<const void*> B, A;
  std::vector<int64_t> ranks;
  std::vector<double> scale, rtol;
  for (int64_t i = 0; i < count; ++i) {
    ranks.push_back(1 + below(r));
    for (const int64_t d : {d_out, d_in}) {
      factors.emplace_back(d * ranks[i]);
      for (Stored& x : factors.back()) x = i % 5 == 4 ? 0 : static_cast<Stored>(normal());
    }
    scale.push_back(i % 3 - 1);
    rtol.push_back(1e-6);
  }
  for (int64_t i = 0; i < count; ++i) {
    B.push_back(factors[2 * i].data());
    A.push_back(factors[2 * i + 1].data());
  }
  std::vector<float> U(count * r * d_out), V(count * r * d_in), s(count * r);
  std::vector<int32_t> rank(count);
  std::vector<uint8_t> fine(count);
  const jaxtask::Updates updates{B.data(), A.data(), ranks.data(), scale.data(), rtol.data(), d_out,
                                 d_in,     r,        1e4,          U.data(),     V.data(),    s.data(),
                                 rank.data(), fine.data()};
  Scratch scratch(kernels.factor_scratch(r));
  run(updates, 0, count, scratch.get());
  for (int64_t i = 0; i < count; ++i) {
    expect(!fine[i] || (rank[i] >= 0 && rank[i] <= ranks[i]), "a rank above r", kernels.name, r);
  }
}

template <typename Stored, typename Scalar = Stored, typename Multiply>
void product(const Kernels& kernels, Multiply run, int64_t panel, int64_t k) {
  const int64_t rows = k * (1 + below(20)), d = 1 + below(300), block = below(2) * k;
  const int64_t columns = block ? rows : 1 + below(150);
  std::vector<Stored> X(rows * d), Y(columns * d);
  std::vector<Scalar> out(rows * columns);
  for (Stored& x : X) x = static_cast<Stored>(normal());
  for (Stored& y : Y) y = static_cast<Stored>(normal());
  const jaxtask::ProductOf all{X.data(), Y.data(), out.data(), rows, columns, d, block};
  for (int64_t column = 0; column < columns; column += panel) {
    for (int64_t row = 0; row < rows; row += 32) {
      Scratch scratch(kernels.product_scratch);
      run(all, row, std::min<int64_t>(32, rows - row), column, scratch.get());
    }
  }
  double right = 0;
  for (int64_t i = 0; i < d; ++i) right += double(X[i]) * Y[i];
  expect(std::abs(out[0] - right) < 1e-3, "a wrong product", kernels.name, k);
}

void angles(const Kernels& kernels, int64_t r) {
  const int64_t s = 2 + below(3), t = s, d = r + below(200), count = 1 + below(kernels.block_f32);
  std::vector<float> X(s * r * d), gram(s * r * t * r), cosines(count * r), sines(count * r);
  for (float& x : X) x = static_cast<float>(normal() / std::sqrt(static_cast<double>(d)));
  std::vector<float> Y = X;
  for (int64_t i = 0; i < s * r; ++i) {
    for (int64_t j = 0; j < t * r; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < d; ++c) sum += double(X[i * d + c]) * Y[j * d + c];
      gram[i * t * r + j] = static_cast<float>(sum);
    }
  }
  std::vector<int32_t> rank(t, static_cast<int32_t>(r)), a(count), b(count);
  std::vector<uint8_t> same(count), is_near(count);
  std::vector<float> there(count * r * r), back(count * r * r);
  for (int64_t i = 0; i < count; ++i) {
    a[i] = static_cast<int32_t>(below(s));
    b[i] = static_cast<int32_t>(below(t));
    same[i] = a[i] == b[i] && below(2);
  }
  const bool outside = below(2);
  const jaxtask::PairsOf pairs{X.data(),
                               Y.data(),
                               gram.data(),
                               rank.data(),
                               rank.data(),
                               a.data(),
                               b.data(),
                               same.data(),
                               t,
                               r,
                               d,
                               30 * (r + 1),
                               cosines.data(),
                               sines.data(),
                               outside ? there.data() : nullptr,
                               outside ? back.data() : nullptr,
                               is_near.data()};
  {
    Scratch scratch(kernels.angle_scratch(r));
    kernels.angles(pairs, 0, count, scratch.get());
  }
  const int64_t p = kernels.padded_rank(r);
  std::vector<double> K(s * p * p);
  for (int64_t i = 0; i < s; ++i) {
    Scratch scratch(kernels.near_angle_scratch(r));
    kernels.products_within(X.data() + i * r * d, r, d, K.data() + i * p * p, scratch.get());
  }
  std::vector<int64_t> near;
  for (int64_t i = 0; i < count && static_cast<int64_t>(near.size()) < kernels.block_f64; ++i) {
    if (is_near[i]) near.push_back(i);
  }
  if (!near.empty()) {
    Scratch scratch(kernels.near_angle_scratch(r));
    std::vector<double> products(gram.begin(), gram.end());
    const double* given = below(2) ? products.data() : nullptr;
    kernels.near_angles(pairs, K.data(), K.data(), given, near.data(), near.size(), scratch.get());
  }
  for (const float x : cosines) expect(x >= 0, "a cosine below zero", kernels.name, r);
}

void pieces() {
  for (int64_t round = 0; round < 200; ++round) {
    std::vector<int> seen(1 + below(50));
    jaxtask::Pool::get().run(seen.size(), 1 + below(4), [&](int64_t i) {
      std::memset(jaxtask::thread_scratch(1 + i * 100), 0, 1 + i * 100);
      ++seen[i];
    });
    for (const int times : seen) expect(times == 1, "a piece not done once", "threads", round);
  }
}

void all_of(const Kernels& kernels) {
  for (int64_t n = 1; n <= jaxtask::kLargest; n += n < 40 ? 1 : 8) {
    singular_values<float>(kernels, kernels.singular_values_f32, kernels.block_f32, n);
    singular_values<double>(kernels, kernels.singular_values_f64, kernels.block_f64, n);
  }
  for (const int64_t r : {1, 2, 3, 7, 8, 16, 17, 33, 64}) {
    factor<float>(kernels, kernels.factor_f32, r);
    factor<double>(kernels, kernels.factor_f64, r);
    product<float>(kernels, kernels.product_f32, kernels.panel_f32, r);
    product<double>(kernels, kernels.product_f64, kernels.panel_f64, r);
    product<float, double>(kernels, kernels.product_wide, kernels.panel_f64, r);
    angles(kernels, r);
  }
  std::printf("%s: nothing found\n", kernels.name);
}

}  // namespace

int main() {
  all_of(jaxtask::kBaseline);
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all_of(jaxtask::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    all_of(jaxtask::kAvx512);
  }
#endif
  pieces();
}
