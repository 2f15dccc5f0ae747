/* Symmetric eigendecompositions of as many small matrices as a vector has lanes, all steps in lockstep.

   VARIANT names the instruction set. Each type of numbers has a kernel for every width that the instruction set has:
   few matrices are cheaper by narrow vectors, and have the same bits. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "arena.h"
#include "native.h"

#if defined(__AVX512F__)
#define WIDEST 64
#define UPDATED 4 /* rows that are updated together: so many sums fit into the registers */
#elif defined(__AVX2__)
#define WIDEST 32
#define UPDATED 2
#else
#define WIDEST 16
#define UPDATED 2
#endif
#define ROWS 4         /* components of all eigenvectors that are rotated together: they stay in the L1 cache */
#define ROTATIONS 1024 /* at least, that are collected before the eigenvectors are rotated: half an L2 cache at most */
#define SWEEPS 60      /* for one eigenvalue: two are usual, and LAPACK allows 30 on average */

#define TYPE f64
#define NAME(word) word##_f64
#define REAL double
#define INTEGER int64_t
#define SUFFIX pd
#define REGISTER_OF(bits) __m##bits##d
#define LARGEST_INTEGER INT64_MAX
#define LARGEST_REAL DBL_MAX
#define EXPONENT_BITS INT64_C(0x7ff0000000000000)
#define EXPONENT_OF_RECIPROCALS INT64_C(0x7fe0000000000000) /* of 1 / x 's bits and x's together, x a power of two */
#define EPSILON DBL_EPSILON
#define LEAST_SQUARE 0x1p-900 /* below it squares lose digits; what it stands for is nothing beside a norm of 1 */
#define LEAST_ENTRY 0x1p-450
#define LEAST_EXPONENT -1000 /* whose reciprocal is finite */
#include "eigh_of_type.inc"

#define TYPE f32
#define NAME(word) word##_f32
#define REAL float
#define INTEGER int32_t
#define SUFFIX ps
#define REGISTER_OF(bits) __m##bits
#define LARGEST_INTEGER INT32_MAX
#define LARGEST_REAL FLT_MAX
#define EXPONENT_BITS 0x7f800000
#define EXPONENT_OF_RECIPROCALS 0x7f000000
#define EPSILON FLT_EPSILON
#define LEAST_SQUARE 0x1p-100f
#define LEAST_ENTRY 0x1p-50f
#define LEAST_EXPONENT -120
#include "eigh_of_type.inc"

#define TABLE_OF(variant) matfn_lockstep_##variant
#define TABLE(variant) TABLE_OF(variant)

const lockstep_table TABLE(VARIANT) = {
    eigh_f32, eigh_f64, eigh_complex_f32, eigh_complex_f64, measure_eigh_f64, eigh_in_f64,
};
