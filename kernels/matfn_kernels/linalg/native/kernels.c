/* The kernels for one instruction set: VARIANT names it, the compiler's flags choose it. */
#include <complex.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "native.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ROWS 8
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define ROWS 4
#else
#define VECTOR_BYTES 16
#define ROWS 4
#endif
#define PACKED_FROM 128 /* order from which a panel of columns is copied to lie without gaps */
#define GRAM_ROWS 128   /* of a Gram matrix that are taken at a time */
#define ROUNDS 3        /* of power iteration */
#define NEAR 24         /* exponent of a power of two that no entry of a scaled matrix's power leaves the range by */
#define NOTHING 1e-10   /* size of a symmetric part that is nothing beside entries of 1 */
#define MORE_ROUNDS 20  /* for an eigenvalue to one part in a hundred, mostly */
#define LANCZOS_STEPS 24
#define SURE 0.75       /* part of a threshold of 8 eps that is left where eps is rounded off */
#define HALVINGS 14     /* of the interval that holds an eigenvalue: to a few parts in 1e4 */
#define ABOVE 1.01      /* times the largest eigenvalue as it is seen then: mostly above the true one */
#define COLUMNS (4 * PROBES)
#define PARTS 8 /* partial sums of an inner product in double precision */
#define PACK 4  /* vectors that are added up together */
#define SPLIT_ABOVE 1.95 /* coefficient of a step that still multiplies small singular values */
#define NEAR_ROW 1024 /* numbers that are still in the nearest cache when they are read again */
#define MIRRORED 16   /* rows and columns of a block that is compared with its mirror image */
#define SUMS 16 /* partial sums of a row: two vectors of doubles at the widest */

/* Numbers in double precision that are added side by side, and the same anywhere in memory. */
typedef double side_by_side __attribute__((vector_size(PARTS * sizeof(double))));
typedef double eight_doubles __attribute__((vector_size(PARTS * sizeof(double)), aligned(8), may_alias));

#define LOCKSTEP_OF(variant) matfn_lockstep_##variant
#define LOCKSTEP(variant) LOCKSTEP_OF(variant)

extern const lockstep_table LOCKSTEP(VARIANT);

/* Memory of zeros for the buffers that were measured; 0 if there is none. */
static int reserve_zeros(arena *room)
{
    if (!reserve(room))
        return 0;
    clear(room);
    return 1;
}

static inline void swap(double **x, double **y)
{
    double *kept = *x;
    *x = *y;
    *y = kept;
}

/* The first, and so the shortest, of the schedules that resolves what lies `reach` times below `smallest`; the widest
   if none does, or it is not a number. */
static int64_t schedule_for(int64_t schedules, const double *bounds, double reach, double smallest)
{
    int64_t chosen = 0;
    while (chosen + 1 < schedules && !(bounds[chosen] * reach <= smallest))
        chosen++;
    return chosen;
}

#include "signs.inc"

#include "octets.inc"

/* All for double precision, which the proofs for floats are taken in, then all for floats; polar.inc uses both. */
#define REAL double
#define INTEGER int64_t
#define LARGEST_INTEGER INT64_MAX
#define TINY DBL_MIN
#define COSINE (4 * DBL_EPSILON) /* between singular vectors: what rounding of their product leaves */
#define LEAST_BITS (DBL_MIN_EXP + DBL_MANT_DIG + 10) /* of an entry: what underflows beside it is nothing */
#define MOST_BITS (DBL_MAX_EXP - 1)
#define NAME(word) word##_f64
#if VECTOR_BYTES == 64
#define LANE_NUMBERS {0, 1, 2, 3, 4, 5, 6, 7}
#elif VECTOR_BYTES == 32
#define LANE_NUMBERS {0, 1, 2, 3}
#else
#define LANE_NUMBERS {0, 1}
#endif
#include "one_type.inc"

#define REAL float
#define INTEGER int32_t
#define LARGEST_INTEGER INT32_MAX
#define TINY FLT_MIN
#define COSINE (0.25 * FLT_EPSILON) /* below the rounding to floats */
#define LEAST_BITS (FLT_MIN_EXP + FLT_MANT_DIG + 10)
#define MOST_BITS (FLT_MAX_EXP - 1)
#define NAME(word) word##_f32
#if VECTOR_BYTES == 64
#define LANE_NUMBERS {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif VECTOR_BYTES == 32
#define LANE_NUMBERS {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANE_NUMBERS {0, 1, 2, 3}
#endif
#include "one_type.inc"

#include "upper_functions.inc"

#include "polar.inc"

#include "half_polar.inc"

#include "gram_polar.inc"

#include "singular_clips.inc"

#include "exponentials.inc"

#include "quasi_triangles.inc"

#include "sylvester.inc"

#include "balls.inc"

#define TABLE_OF(variant) matfn_table_##variant
#define TABLE(variant) TABLE_OF(variant)

const native_table TABLE(VARIANT) = {
    roots_f32,
    roots_f64,
    triangles_f32,
    triangles_f64,
    polar_factors,
    grams,
    images,
    low_rank_f32,
    low_rank_f64,
    sums_f32,
    sums_f64,
    norms_f32,
    norms_f64,
    peaks_f32,
    peaks_f64,
    triangle_peaks_f32,
    triangle_peaks_f64,
    symmetric_peaks_f32,
    symmetric_peaks_f64,
    multiples_f32,
    multiples_f64,
    solves_f32,
    solves_f64,
    unexplained_f32,
    unexplained_f64,
    balls,
    spectral_f32,
    spectral_f64,
    clips_f32,
    clips_f64,
    svds_f32,
    svds_f64,
    gram_polars,
    singular_clips,
    exponentials,
    sylvester,
    half_polars,
    upper_functions,
};
