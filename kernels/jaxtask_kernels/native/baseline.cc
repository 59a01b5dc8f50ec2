// The kernels for the instructions that every processor of this architecture has.

#define JAXTASK_VARIANT kBaseline
#if defined(__x86_64__)
#define JAXTASK_NAME "x86-64"
#elif defined(__aarch64__)
#define JAXTASK_NAME "aarch64"
#else
#define JAXTASK_NAME "baseline"
#endif
#include "variant.inc"
