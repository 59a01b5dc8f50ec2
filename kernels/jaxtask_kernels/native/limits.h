// What C++ and Python both go by. Python reads this file (`_limits` in __init__.py), so that it knows with or
// without a compiled library: one `constexpr TYPE kName = NUMBER;` a line.

#ifndef JAXTASK_NATIVE_LIMITS_H_
#define JAXTASK_NATIVE_LIMITS_H_

#include <cstdint>

namespace jaxtask {

// Rows of the largest matrices whose singular values are found here; larger ones are LAPACK's.
constexpr int64_t kLargest = 128;

// The cosine above which a pair of bases is near: arccos then loses too much, and angles come from the
// sines. Below it, sqrt(1 − cos²) is as good as any sine.
constexpr float kNear = 0.95f;

}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_LIMITS_H_
