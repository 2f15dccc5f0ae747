/* The plans and findings of the library's functions, and the table of kernels that each instruction set has. contract.c
   lists all that Python must agree on. */
#ifndef MATFN_NATIVE_H
#define MATFN_NATIVE_H

#include <stdint.h>

#define PROBES 4 /* columns of random numbers on which certificates are taken */
#define MAX_STEPS 24
#define RANDOM_FIELDS 4 /* numbers of 16 bits in the sum that is one random number */

#define HALF_TILE 512 /* numbers of a tile of bf16: 16 rows of 32, or 16 columns of 32 */
#define HALF_BLOCK 32 /* order of a block of floats, which two tiles hold */

/* Returned by functions: done; no memory, and nothing written; or LAPACK refuses the arguments. */
enum { DONE, OUT_OF_MEMORY, REFUSED };

/* Findings of each matrix, in the order in which they are written. */
enum {
    DEFINITE,
    ASYMMETRY,
    SMALLEST,
    LARGEST,
    RESIDUAL,
    MISSING,
    STEPS,
    EXPONENT,
    OTHER_EXPONENT,
    ROOT_DAMPING,
    ROOT_SHIFT,
    ROOT_FINDINGS
};

/* What is said of positive definiteness: there is no proof, nor would there be one in more digits; none; one. */
enum { NEVER_DEFINITE = -1, NOT_PROVED, PROVED };

enum { IN_LANES = -1 };

/* Which multiple of the identity is added before a power is taken: none, a part of the largest eigenvalue, the least
   that makes A positive definite, none while small eigenvalues are dropped, or a number as it is. */
enum { NOTHING_ADDED, PART_ADDED, LEAST_ADDED, RANGE_KEPT, NUMBER_ADDED };

/* Powers of a batch of matrices of one order: A^(s/r) = A^k A^(-s'/r). */
typedef struct {
    int64_t items, order;
    int64_t k, s, r;            /* A^k A^(-s/r), in lowest terms */
    int64_t whole_s, whole_r;   /* the power as it was asked for, whose equation is checked */
    int64_t identity_too;       /* A^(-s/r) as well, in a second array */
    int64_t schedules;          /* of the iteration, the one for the widest spectrum last */
    int64_t rule;               /* of damping: NOTHING_ADDED, PART_ADDED or NUMBER_ADDED */
    double added;               /* the part of the largest eigenvalue, or the number */
    double negative;            /* how far below zero, relative to the largest, eigenvalues may lie for a number */
    double floor;               /* smallest eigenvalue that is answered for, relative to the largest */
    double bound;               /* the same relative to ||A^2||_F^(1/2) */
    double reach;               /* how far below its estimate the smallest eigenvalue may lie */
    const double *probes;       /* (order, PROBES) */
    const double *bounds;       /* (schedules): the smallest eigenvalue that each resolves */
    const int64_t *steps;       /* (schedules) */
    const double *coefficients; /* (schedules, MAX_STEPS, 3) */
} roots_plan;

/* Inverses of a batch of triangles. */
typedef struct {
    int64_t items, order;
    int64_t upper, unit;  /* which triangle is read, and whether its diagonal is taken as ones */
    double spacing;       /* of the arithmetic */
    const double *probes; /* (order, PROBES), rows of unit length */
} triangles_plan;

enum { TRIANGLE_RESIDUAL, TRIANGLE_ERROR, TRIANGLE_NORM, TRIANGLE_INVERSE, TRIANGLE_FINDINGS };

/* Solutions of a batch of triangular systems with few columns. */
typedef struct {
    int64_t items, order, columns; /* PROBES columns at most */
    int64_t upper, unit;           /* as in triangles_plan */
    int64_t transposed;            /* whether equations with the transposes are solved */
    const double *probes;          /* (order, PROBES) */
} solves_plan;

/* Frobenius norms of B - T X, of B, of T^-1 (B - T X), of what rounding of the residual adds to that, of X and of what
   the correction leaves of the residual; lower bounds of the 2-norms of T and of its inverse. */
enum {
    SOLVE_MISSING,
    SOLVE_TARGET,
    SOLVE_STEP,
    SOLVE_ROUNDED,
    SOLVE_SIZE,
    SOLVE_LEFT,
    SOLVE_NORM,
    SOLVE_INVERSE,
    SOLVE_FINDINGS
};

/* Products or solutions of a batch with a diagonal matrix plus one of low rank. */
typedef struct {
    int64_t items, order, rank, columns;
    int64_t transposed; /* whether the transpose acts */
    int64_t inverse;    /* whether equations are solved instead */
} low_rank_plan;

typedef struct {
    int64_t items, rows, columns; /* rows >= columns */
    const double *probes;         /* (columns, PROBES) */
} tall_plan;

enum { IMAGE_ROUNDING, IMAGE_RESIDUAL, IMAGE_SKEW, IMAGE_FINDINGS };

/* Polar factors of a batch. */
typedef struct {
    int64_t items, rows, columns; /* rows >= columns */
    int64_t schedules;            /* as in roots_plan, by the smallest singular value */
    double floor;                 /* smallest singular value, relative to ||M^T M||_F^(1/2) */
    double reach;
    const double *probes; /* (columns, PROBES) */
    const double *bounds;
    const int64_t *steps;
    const double *coefficients; /* (schedules, MAX_STEPS, 3) */
} polar_plan;

enum {
    POLAR_DEFINITE,
    POLAR_SMALLEST,
    POLAR_LARGEST,
    POLAR_SPREAD,
    POLAR_RESIDUAL,
    POLAR_GAP,
    POLAR_STEPS,
    POLAR_FINDINGS
};

enum {
    HALF_POLAR_DEFINITE,
    HALF_POLAR_SMALLEST,
    HALF_POLAR_LARGEST,
    HALF_POLAR_TURN,
    HALF_POLAR_OUTSIDE,
    HALF_POLAR_RESIDUAL,
    HALF_POLAR_GAP,
    HALF_POLAR_STEPS,
    HALF_POLAR_FINDINGS
};

/* Residuals of a batch of decompositions. */
typedef struct {
    int64_t items, rows, columns; /* of V, whose rows are the vectors */
    const double *probes;         /* (columns, PROBES) */
    double law, skew_law;         /* largest residual relative to the largest value, and skewness, that are explained */
    double margin;                /* how often what is not explained counts */
} residuals_plan;

/* Eigendecompositions of a batch of small symmetric matrices. */
typedef struct {
    int64_t items, order;
} lockstep_plan;

/* Rows of numbers, each with a factor of its own. */
typedef struct {
    int64_t items, length;
} rows_plan;

/* Powers of a batch of small symmetric matrices by their eigendecompositions. */
typedef struct {
    int64_t items, order;
    int64_t library;             /* whose LAPACK decomposes the matrices, IN_LANES for the kernels in lockstep */
    int64_t s, r, inverse, pair; /* A^(s/r), A^(-s/r), or first the one and then the other */
    int64_t rule;                /* of damping */
    int64_t refine;              /* whether the least eigenvalue has to be known better than backward errors leave it */
    double added;                /* the part of the largest eigenvalue, or the number */
    double floor;                /* threshold of rank and of damping by default, relative to the largest eigenvalue */
    double negative;             /* how far below zero, relative to the largest, an eigenvalue may lie */
    double noise, skew;          /* what eigenvalues and vectors of a norm of 1 are off by: the law of backward errors */
    double law, skew_law;        /* largest residual and skewness that the law explains, as in residuals_plan */
    double margin;               /* how often what is not explained counts */
    double near, least;          /* parts: of the noise near a threshold, and of an eigenvalue that is left of it */
    double negligible;           /* relative error that need not be known any better */
    const double *probes;        /* (order, PROBES) */
} spectral_plan;

enum {
    SPECTRAL_OPEN, /* 1 if there is no answer: another method has to look at the matrix */
    SPECTRAL_CONDITION,
    SPECTRAL_RANK,
    SPECTRAL_DAMPING,
    SPECTRAL_SHIFT,
    SPECTRAL_ERROR,
    SPECTRAL_ROUNDING,
    SPECTRAL_RESIDUAL,
    SPECTRAL_ASYMMETRY,
    SPECTRAL_FINDINGS
};

/* Small symmetric matrices whose eigenvalues are clipped. */
typedef struct {
    int64_t items, order;
    double lo, hi;
    double noise;         /* backward error of the decomposition, relative to the largest eigenvalue, by its law */
    double law, skew_law; /* largest residual and skewness that the law explains, as in residuals_plan */
    double margin;        /* how often what was measured counts */
    const double *probes; /* (order, PROBES) */
} clip_plan;

enum {
    CLIP_OPEN, /* 1 if there is no answer: another method has to look at the matrix */
    CLIP_CONDITION,
    CLIP_ERROR,
    CLIP_ROUNDING,
    CLIP_RESIDUAL,
    CLIP_ASYMMETRY,
    CLIP_FINDINGS
};

/* Polar factors or clippings of small tall matrices by their Gram matrices. */
typedef struct {
    int64_t items, rows, columns; /* rows >= columns */
    int64_t clips;                /* whether singular values are clipped, rather than made one */
    double lo, hi;
    double threshold;     /* relative to the largest, at or below which a singular value is noise */
    double noise;         /* error of the squares of singular values, relative to the largest, by its law */
    double law, skew_law; /* largest residual and skewness that the law explains, as in residuals_plan */
    double margin;        /* how often what is not explained counts */
    const double *probes; /* (columns, PROBES) */
} gram_polar_plan;

enum {
    GRAM_POLAR_OPEN, /* 1 if there is no answer: another method has to look at the matrix */
    GRAM_POLAR_CONDITION,
    GRAM_POLAR_RANK,
    GRAM_POLAR_SAME, /* 1 if nothing is clipped and the matrix comes back as it is */
    GRAM_POLAR_ERROR,
    GRAM_POLAR_SKEW,
    GRAM_POLAR_ROUNDING,
    GRAM_POLAR_RESIDUAL,
    GRAM_POLAR_FINDINGS
};

/* Exponentials e^(t A) of a batch of small matrices. */
typedef struct {
    int64_t items, order;
    int64_t symmetric; /* whether the symmetric parts of the matrices are taken */
    double t;
    const double *probes; /* (order, PROBES) */
} exponentials_plan;

enum {
    EXPONENTIAL_OPEN, /* 1 if there is no answer: another method has to look at the matrix */
    EXPONENTIAL_CONDITION,
    EXPONENTIAL_ERROR,
    EXPONENTIAL_RESIDUAL,
    EXPONENTIAL_ASYMMETRY,
    EXPONENTIAL_EXPONENT, /* of two, by which the answer has to be multiplied */
    EXPONENTIAL_STEPS,
    EXPONENTIAL_FINDINGS
};

/* Equations A X + X B = Q of small real matrices, or A X + X A^T = Q without B, with the Schur forms A = U T U^T and
   B^T = W S W^T, all of these column by column. */
typedef struct {
    int64_t rows, columns; /* of X */
    double stored, enough; /* residuals in units of eps and of the terms: at first and once refined, none is refined */
    double suspicious;     /* (||A|| + ||B||) eps / sep from which on another method has to look at an equation */
    double margin, rounding;
    double extended, cancelling; /* rounding of residuals, relative to their sums and to the sizes of their terms */
    double crude;                /* error by norms above which it is measured instead */
    double hopeless;             /* condition times eps from which on no digit is promised */
    const double *a, *b, *q, *t, *u, *s, *w;
    const double *random;               /* (columns, rows) */
    const double *probes, *other_probes; /* (rows, PROBES) and (columns, PROBES) */
    char *x, *findings;
} sylvester_plan;

enum {
    SYLVESTER_OPEN, /* 1 if there is no answer: another method has to look at the equation */
    SYLVESTER_CONDITION,
    SYLVESTER_ERROR,
    SYLVESTER_RESIDUAL,
    SYLVESTER_FINDINGS
};

/* Logarithms or powers of a batch of complex upper triangular matrices. */
typedef struct {
    int64_t items, order;
    int64_t is_logarithm;
    int64_t nodes, terms; /* of the logarithm near 1, and of the exponential's series near 0 */
    double exponent;      /* of the power, above -1 and below 1 */
    double reach;         /* how near the identity the last square root has to come */
    double margin;        /* how often the error counts */
    const double *node;   /* (nodes, 2): places from 0 to 1, and weights */
    const double *pair;   /* two places for derivatives */
    const double *random; /* (2 order, order): real and imaginary parts */
} upper_plan;

enum {
    UPPER_OPEN, /* 1 if there is no answer: another method has to look at the matrix */
    UPPER_CONDITION,
    UPPER_ERROR,
    UPPER_STEPS,
    UPPER_INVERSE, /* ||T^-1||_F */
    UPPER_FINDINGS
};

/* Calls of BLAS and LAPACK: `library` and `kind` name whose routines and which numbers (see lapack.c). Matrices without
   an operand of their own have no gaps between rows. */
enum { SINGLE, DOUBLE, COMPLEX_SINGLE, COMPLEX_DOUBLE, KINDS };

typedef struct {
    const char *at;
    int64_t item, row; /* numbers from one matrix, and from one row, to the next */
    int64_t stored;    /* PLAIN, TRANSPOSED or ADJOINT */
} operand;

typedef struct {
    int64_t library, kind;
    int64_t m, k, n;
    int64_t panel; /* rows of a product that are one unit of work */
    operand x, y;
    char *out;
    double alpha, beta;
} products_plan;

typedef struct {
    int64_t library, kind;
    int64_t n, m;
    int64_t upper, has_ones; /* which triangle of T as it is stored, and whether its diagonal is taken as ones */
    operand t;
    char *b;
} substitutions_plan;

typedef struct {
    int64_t library, kind, n;
    char *a;
    char *exists;
} cholesky_plan;

typedef struct {
    int64_t library, kind, n;
    const char *a;
    char *w, *v;
} eigh_plan;

/* Schur forms, complex ones of real matrices too; `t` and `q` are complex numbers in pairs. */
typedef struct {
    int64_t library, kind, n;
    const char *a;
    char *t, *q;
} schur_plan;

/* Real Schur forms of A, or of A^T if `turned`; `t` and `q` column by column. */
typedef struct {
    int64_t library, kind, n, turned;
    const char *a;
    char *t, *q;
} real_schur_plan;

typedef struct {
    int64_t library, kind, m, n;
    const char *given;
    char *u, *sigma, *vh;
} svd_plan;

typedef struct {
    int64_t library, kind, n;
    const char *a;
    char *out;
} inverses_plan;

/* Riccati equations without descriptor and cross term. */
typedef struct {
    int64_t library, kind, n, m;
    int64_t discrete, rounded; /* whether X is to be rounded to single precision */
    int64_t steps;             /* most doublings */
    double settled, exact;     /* relative changes after which doubling ends, and after which Newton's method does */
    double vanished, diverged; /* norms of a power of the loop that count as none, and as too large */
    const char *a, *b, *q, *r;
    char *x, *k, *found; /* K may be null */
} riccati_plan;

/* Findings of a Riccati equation in the units in which it was solved: whether there are any, steps, exponent of the cost;
   Frobenius norms of its matrices, of X, K, W, W^-1, A - B K and H, of W K - H, B^H X, X (A - B K), B W^-1 B^H, W^-1 B^H and K in the
   caller's units of the inputs, of K^H R K, of the residual and of its terms together; of the residual before the last step
   of Newton's method, of that step and of what it leaves of its linear equation; a bound of the norm of the inverse of the derivative, and how far the equations of that bound are from solved. */
enum {
    RICCATI_FOUND,
    RICCATI_STEPS,
    RICCATI_EXPONENT,
    RICCATI_A,
    RICCATI_B,
    RICCATI_Q,
    RICCATI_R,
    RICCATI_X,
    RICCATI_GAIN,
    RICCATI_WEIGHT,
    RICCATI_INVERSE,
    RICCATI_LOOP,
    RICCATI_HELD,
    RICCATI_MISSED,
    RICCATI_PROJECTED,
    RICCATI_IMAGE,
    RICCATI_PUSH,
    RICCATI_PRESSED,
    RICCATI_OWN_GAIN,
    RICCATI_COST,
    RICCATI_MISSING,
    RICCATI_TERMS,
    RICCATI_BEFORE,
    RICCATI_STEP,
    RICCATI_LEFT,
    RICCATI_REACH,
    RICCATI_UNSOLVED,
    RICCATI_FINDINGS
};

/* Steps of a program on balls (balls.inc): what a step makes of the balls X and Y. */
enum { GIVEN, DIAGONAL, PRODUCT, SUM, FACTOR, INVERSE, ROWS_LIKE, STRICT, WIDER };

enum { TURNED = 1, ROUNDED = 2 }; /* how a ball is read: as its transpose, as a ball about its first part */
enum { UPPER_HALF = 1, LOWER_HALF = 2 }; /* beside the diagonal: where a matrix is zero, or not read */

#define BALL_FACTS 4 /* that are told of a step: two norms, radius about the first part, whether a factor exists */

typedef struct {
    int64_t code, x, y, out; /* the balls are places in memory */
    int64_t x_view, y_view;
    int64_t doubled;     /* whether the result has two parts */
    int64_t symmetric;   /* whether an exact product is known to be */
    double sign, factor; /* of (X + sign Y) factor */
    const char *at;      /* of what is given, null for ones on a diagonal */
    const char *exponents;
    int64_t single, unread, ones;
} ball_step;

/* A place for balls. */
typedef struct {
    int64_t rows, columns, doubled;
} ball_slot;

typedef struct {
    int64_t items, steps, slots;
    int64_t largest, doubled; /* number of rows or columns, and whether any ball has two parts */
    const char *step, *slot;
    char *facts;
} balls_plan;

/* Products of bf16 numbers. A block of floats lies row by row, without gaps. */
typedef struct {
    void (*begin)(void); /* a thread may multiply */
    void (*end)(void);
    /* A block of X Y, or added to it: so many tiles of the upper and, `gap` numbers further, lower rows of X, and of
       the left and right columns of Y */
    void (*multiply)(int64_t count, const uint16_t *x, int64_t x_gap, const uint16_t *y, int64_t y_gap, int adds,
                     float *block);
    /* A block rounded to tiles, and what rounding takes, rounded, to others, which may be absent. */
    void (*rows_of)(const float *block, uint16_t *upper, uint16_t *lower, uint16_t *upper_rest, uint16_t *lower_rest);
    void (*columns_of)(const float *block, uint16_t *left, uint16_t *right, uint16_t *left_rest,
                       uint16_t *right_rest);
} half_table;

typedef struct {
    int (*roots_f32)(const roots_plan *, const float *a, float *out, float *other, double *findings);
    int (*roots_f64)(const roots_plan *, const double *a, double *out, double *other, double *findings);
    int (*triangles_f32)(const triangles_plan *, const float *t, float *out, double *findings);
    int (*triangles_f64)(const triangles_plan *, const double *t, double *out, double *findings);
    int (*polar_factors)(const polar_plan *, const float *m, float *out, double *findings);
    int (*grams)(const tall_plan *, const float *m, double *out);
    int (*images)(const tall_plan *, const float *m, const double *vectors, const double *h, float *out, double *);
    int (*low_rank_f32)(const low_rank_plan *, const float *, const float *, const float *, const float *, float *);
    int (*low_rank_f64)(
        const low_rank_plan *, const double *, const double *, const double *, const double *, double *);
    void (*sums_f32)(int64_t rows, int64_t length, const float *, double *);
    void (*sums_f64)(int64_t rows, int64_t length, const double *, double *);
    void (*norms_f32)(int64_t rows, int64_t length, const float *, float *);
    void (*norms_f64)(int64_t rows, int64_t length, const double *, double *);
    void (*peaks_f32)(int64_t rows, int64_t length, const float *, float *);
    void (*peaks_f64)(int64_t rows, int64_t length, const double *, double *);
    void (*triangle_peaks_f32)(
        int64_t items, int64_t order, int64_t upper, int64_t strict, const float *, float *);
    void (*triangle_peaks_f64)(
        int64_t items, int64_t order, int64_t upper, int64_t strict, const double *, double *);
    void (*symmetric_peaks_f32)(int64_t items, int64_t order, const float *, float *);
    void (*symmetric_peaks_f64)(int64_t items, int64_t order, const double *, double *);
    int (*multiples_f32)(const rows_plan *, const float *x, const double *factors, float *out, float *peaks);
    int (*multiples_f64)(const rows_plan *, const double *x, const double *factors, double *out, double *peaks);
    int (*solves_f32)(const solves_plan *, const float *t, const float *b, float *x, double *findings);
    int (*solves_f64)(const solves_plan *, const double *t, const double *b, double *x, double *findings);
    void (*unexplained_f32)(
        const residuals_plan *, const float *, const float *, const float *, double *, double *);
    void (*unexplained_f64)(
        const residuals_plan *, const double *, const double *, const double *, double *, double *);
    int (*balls)(const balls_plan *, int64_t first, int64_t last);
    int (*spectral_f32)(const spectral_plan *, const float *a, float *out, float *other, double *findings);
    int (*spectral_f64)(const spectral_plan *, const double *a, double *out, double *other, double *findings);
    int (*clips_f32)(const clip_plan *, const float *a, float *out, double *findings);
    int (*clips_f64)(const clip_plan *, const double *a, double *out, double *findings);
    int (*svds_f32)(const tall_plan *, const float *m, float *u, float *sigma, float *vh);
    int (*svds_f64)(const tall_plan *, const double *m, double *u, double *sigma, double *vh);
    int (*gram_polars)(const gram_polar_plan *, const float *m, float *out, double *findings);
    int (*singular_clips)(const gram_polar_plan *, const double *m, double *out, double *findings);
    int (*exponentials)(const exponentials_plan *, const double *a, double *out, double *findings);
    int (*sylvester)(const sylvester_plan *, int64_t first, int64_t last);
    int (*half_polars)(const half_table *, const polar_plan *, const float *m, float *out, double *findings);
    int (*upper_functions)(const upper_plan *, const double *t, double *out, double *findings); /* in pairs */
} native_table;

int matfn_lapack_eigh(const eigh_plan *plan, int64_t first, int64_t last);

struct arena;

/* Eigenvalues w (items, order), ascending, and eigenvectors v row by row; NaN where there are none. */
typedef struct {
    int (*eigh_f32)(const lockstep_plan *, const float *a, float *w, float *v);
    int (*eigh_f64)(const lockstep_plan *, const double *a, double *w, double *v);
    int (*eigh_c64)(const lockstep_plan *, const float *a, float *w, float *v); /* complex numbers in pairs */
    int (*eigh_c128)(const lockstep_plan *, const double *a, double *w, double *v);
    void (*measure_f64)(struct arena *, const lockstep_plan *); /* takes the buffers that eigh_in_f64 needs */
    void (*eigh_in_f64)(struct arena *, const lockstep_plan *, const double *a, double *w, double *v);
} lockstep_table;

#endif
