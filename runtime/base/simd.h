/* RQ_SIMD in front of a function compiles it several times (SSE2, AVX2, AVX-512); the best for the
 * CPU is chosen at load. For leaf functions with plain loops over restrict pointers: an OpenMP
 * region inside would not be cloned, so such functions work on a range and the region around calls
 * them. The results are the same in all clones: no contraction, no reassociation. Off under
 * sanitizers and in clang-based tools. */
#ifndef RQ_RUNTIME_BASE_SIMD_H
#define RQ_RUNTIME_BASE_SIMD_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define RQ_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RQ_SIMD
#endif

#endif
