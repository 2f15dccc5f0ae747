/* BLAS and LAPACK on one matrix of a batch after the other, each on storage of the same alignment and layout.

   The last bits of MKL's answers depend on where operands lie in memory and on the number of threads. Here every
   routine has one thread, and operands that start at a multiple of 64 bytes and have no gaps between their rows: copies
   where the caller's differ. The answer is then a function of the matrix.

   The routines are those of the libraries that are in the process anyway, handed over as addresses: this file is linked
   with neither. Matrices are row by row in memory, which Fortran reads as their transposes. */
#include <complex.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "native.h"

#define EXPORTED __attribute__((visibility("default")))
#define LIBRARIES 2

enum { GEMM, TRSM, POTRF, EIGH, GESDD, GETRF, GETRS, GEES, ROUTINES }; /* a library may lack the last one */
enum { PLAIN, TRANSPOSED, ADJOINT }; /* how an operand is stored: as it is, or as its (conjugate) transpose */

typedef void (*routine)(void);
typedef int (*thread_setter)(int);

static struct {
    routine routines[ROUTINES][KINDS];
    thread_setter set_threads; /* of the calling thread only; null where there is none */
} libraries[LIBRARIES];

static const size_t sizes[KINDS] = {sizeof(float), sizeof(double), 2 * sizeof(float), 2 * sizeof(double)};
static const double one[2] = {1, 0};
static const float single_one[2] = {1, 0};

/* Takes addresses of routines (ROUTINES, KINDS) and of the function that sets this thread's number of threads. */
EXPORTED void matfn_lapack_take(int64_t library, void *const *addresses, void *set_threads)
{
    memcpy(libraries[library].routines, addresses, sizeof(libraries[library].routines));
    memcpy(&libraries[library].set_threads, &set_threads, sizeof(set_threads));
}

static int one_thread(int64_t library)
{
    return libraries[library].set_threads ? libraries[library].set_threads(1) : 0;
}

static void as_before(int64_t library, int threads)
{
    if (libraries[library].set_threads)
        libraries[library].set_threads(threads);
}

static int is_aligned(const void *at) { return (uintptr_t)at % ALIGNMENT == 0; }

static const char *item_of(const void *all, int64_t item, int64_t stride, size_t size)
{
    return (const char *)all + item * stride * (int64_t)size;
}

/* Rows without gaps at an aligned address: the matrix itself, or a copy of it in `room`. */
static const void *settled(const void *matrix, int64_t rows, int64_t columns, int64_t stride, size_t size, void *room)
{
    if (is_aligned(matrix) && (stride == columns || rows == 1))
        return matrix;
    if (stride == columns)
        return memcpy(room, matrix, rows * columns * size);
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)room + i * columns * size, item_of(matrix, i, stride, size), columns * size);
    return room;
}

/* Whether no number has the exponent of infinities and NaN. */
static int is_finite(const void *numbers, int64_t count, int64_t kind)
{
    int found = 0;
    if (kind >= COMPLEX_SINGLE)
        count *= 2;
    if (kind == SINGLE || kind == COMPLEX_SINGLE)
        for (int64_t i = 0; i < count; i++)
            found |= (((const uint32_t *)numbers)[i] & 0x7f800000u) == 0x7f800000u;
    else
        for (int64_t i = 0; i < count; i++)
            found |= (((const uint32_t *)numbers)[2 * i + 1] & 0x7ff00000u) == 0x7ff00000u;
    return !found;
}

static void fill_with_nan(void *numbers, int64_t bytes, int64_t kind)
{
    if (kind == SINGLE || kind == COMPLEX_SINGLE)
        for (int64_t i = 0; i < bytes / (int64_t)sizeof(float); i++)
            ((float *)numbers)[i] = NAN;
    else
        for (int64_t i = 0; i < bytes / (int64_t)sizeof(double); i++)
            ((double *)numbers)[i] = NAN;
}

/* Copies with the sign of imaginary parts changed. */
static void conjugate(void *to, const void *from, int64_t count, int64_t kind)
{
    if (kind == COMPLEX_SINGLE)
        for (int64_t i = 0; i < count; i++) {
            ((float *)to)[2 * i] = ((const float *)from)[2 * i];
            ((float *)to)[2 * i + 1] = -((const float *)from)[2 * i + 1];
        }
    else
        for (int64_t i = 0; i < count; i++) {
            ((double *)to)[2 * i] = ((const double *)from)[2 * i];
            ((double *)to)[2 * i + 1] = -((const double *)from)[2 * i + 1];
        }
}

static const void *unit(int64_t kind)
{
    return kind == SINGLE || kind == COMPLEX_SINGLE ? (const void *)single_one : (const void *)one;
}

/* A leading dimension, which LAPACK wants to be 1 at least. */
static int leading(int64_t rows) { return rows > 1 ? (int)rows : 1; }

static const char *letter(int64_t stored) { return stored == PLAIN ? "N" : stored == TRANSPOSED ? "T" : "C"; }

typedef void (*gemm)(
    const char *, const char *, const int *, const int *, const int *, const void *, const void *, const int *,
    const void *, const int *, const void *, void *, const int *);

/* Copies of what the caller has not aligned. */
typedef struct {
    void *x, *y, *out;
    arena room;
} products_space;

static void take_products_space(const products_plan *plan, products_space *space)
{
    size_t size = sizes[plan->kind];
    space->x = take(&space->room, plan->m * plan->k, size);
    space->y = take(&space->room, plan->k * plan->n, size);
    space->out = take(&space->room, plan->panel * plan->n, size);
}

/* out = alpha X Y + beta out for units first..last, each `panel` rows of one product at most; out has no gaps. Of an
   operand it is said how far apart matrices and rows are, and how it is stored. */
EXPORTED int matfn_lapack_products(const products_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t m = plan->m, k = plan->k, n = plan->n, panel = plan->panel;
    const operand *x = &plan->x, *y = &plan->y;
    size_t size = sizes[kind];
    int64_t panels = (m + panel - 1) / panel;
    int64_t x_rows = x->stored ? k : m, x_columns = x->stored ? m : k;
    int64_t y_rows = y->stored ? n : k, y_columns = y->stored ? k : n;
    products_space space = {.room = {0}};
    take_products_space(plan, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_products_space(plan, &space);
    float single[2][2] = {{(float)plan->alpha, 0}, {(float)plan->beta, 0}};
    double wide[2][2] = {{plan->alpha, 0}, {plan->beta, 0}};
    int narrow = kind == SINGLE || kind == COMPLEX_SINGLE;
    const void *alpha = narrow ? (void *)single[0] : (void *)wide[0];
    const void *beta = narrow ? (void *)single[1] : (void *)wide[1];
    int columns = n, inner = k, x_step = leading(x_columns), y_step = leading(y_columns), out_step = leading(n);
    int threads = one_thread(library);
    gemm multiply = (gemm)libraries[library].routines[GEMM][kind];
    for (int64_t unit = first; unit < last; unit++) {
        int64_t item = unit / panels, start = unit % panels * panel;
        int rows = m - start < panel ? m - start : panel;
        const char *left = settled(item_of(x->at, item, x->item, size), x_rows, x_columns, x->row, size, space.x);
        const char *right = settled(item_of(y->at, item, y->item, size), y_rows, y_columns, y->row, size, space.y);
        char *to = plan->out + (item * m + start) * n * size, *made = is_aligned(to) ? to : space.out;
        if (made != to && plan->beta != 0)
            memcpy(made, to, rows * n * size);
        left += (x->stored ? start : start * x_columns) * size;
        multiply(letter(y->stored), letter(x->stored), &columns, &rows, &inner, alpha, right, &y_step, left, &x_step,
                 beta, made, &out_step);
        if (made != to)
            memcpy(to, made, rows * n * size);
    }
    as_before(library, threads);
    release(&space.room);
    return DONE;
}

typedef void (*trsm)(
    const char *, const char *, const char *, const char *, const int *, const int *, const void *, const void *,
    const int *, void *, const int *);

typedef struct {
    void *t, *b;
    arena room;
} substitutions_space;

static void take_substitutions_space(const substitutions_plan *plan, substitutions_space *space)
{
    space->t = take(&space->room, plan->n * plan->n, sizes[plan->kind]);
    space->b = take(&space->room, plan->n * plan->m, sizes[plan->kind]);
}

/* B <- T^-1 B for B (n, m) without gaps and the triangle of T that `upper` names, of T as it is stored. */
EXPORTED int matfn_lapack_substitutions(const substitutions_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t n = plan->n, m = plan->m;
    size_t size = sizes[kind];
    substitutions_space space = {.room = {0}};
    take_substitutions_space(plan, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_substitutions_space(plan, &space);
    int order = n, columns = m, t_step = leading(n), b_step = leading(m), threads = one_thread(library);
    trsm substitute = (trsm)libraries[library].routines[TRSM][kind];
    for (int64_t item = first; item < last; item++) {
        const void *triangle = settled(item_of(plan->t.at, item, plan->t.item, size), n, n, plan->t.row, size, space.t);
        char *to = plan->b + item * n * m * size, *made = is_aligned(to) ? to : space.b;
        if (made != to)
            memcpy(made, to, n * m * size);
        /* Fortran sees X^T T^T = B^T; a T that is stored as its transpose it sees as it is. */
        substitute("R", plan->upper ? "L" : "U", letter(plan->t.stored), plan->has_ones ? "U" : "N", &columns,
                   &order, unit(kind), triangle, &t_step, made, &b_step);
        if (made != to)
            memcpy(to, made, n * m * size);
    }
    as_before(library, threads);
    release(&space.room);
    return DONE;
}

typedef void (*potrf)(const char *, const int *, void *, const int *, int *);

typedef struct {
    void *a;
    arena room;
} cholesky_space;

static void take_cholesky_space(const cholesky_plan *plan, cholesky_space *space)
{
    space->a = take(&space->room, plan->n * plan->n, sizes[plan->kind]);
}

/* A <- L of A = L L^H, zero above the diagonal, for symmetric A (n, n) without gaps; `exists` says where it has one. */
EXPORTED int matfn_lapack_cholesky(const cholesky_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t n = plan->n;
    size_t size = sizes[kind];
    cholesky_space space = {.room = {0}};
    take_cholesky_space(plan, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_cholesky_space(plan, &space);
    int order = n, step = leading(n), threads = one_thread(library);
    potrf factorise = (potrf)libraries[library].routines[POTRF][kind];
    for (int64_t item = first; item < last; item++) {
        char *to = plan->a + item * n * n * size, *made = is_aligned(to) ? to : space.a;
        int info = 1;
        if (made != to)
            memcpy(made, to, n * n * size);
        if (is_finite(made, n * n, kind))
            factorise("U", &order, made, &step, &info); /* Fortran sees A^T = (L^T)^H L^T */
        for (int64_t i = 0; i < n; i++)
            memset(made + (i * n + i + 1) * size, 0, (n - i - 1) * size);
        if (made != to)
            memcpy(to, made, n * n * size);
        plan->exists[item] = !info;
    }
    as_before(library, threads);
    release(&space.room);
    return DONE;
}

typedef void (*real_eigh)(
    const char *, const char *, const int *, void *, const int *, void *, void *, const int *, int *, const int *,
    int *);
typedef void (*complex_eigh)(
    const char *, const char *, const int *, void *, const int *, void *, void *, const int *, void *, const int *,
    int *, const int *, int *);

/* The workspace of a decomposition, in LAPACK's sense. */
typedef struct {
    void *numbers, *reals;
    int *integers;
    int length, real_length, integer_length; /* -1 to ask how long they ought to be */
} workspace;

static int diagonalise(int64_t library, int64_t kind, int order, void *a, void *w, workspace *space)
{
    routine found = libraries[library].routines[EIGH][kind];
    int step = leading(order), info = 0;
    if (kind < COMPLEX_SINGLE)
        ((real_eigh)found)("V", "L", &order, a, &step, w, space->numbers, &space->length, space->integers,
                           &space->integer_length, &info);
    else
        ((complex_eigh)found)("V", "L", &order, a, &step, w, space->numbers, &space->length, space->reals,
                              &space->real_length, space->integers, &space->integer_length, &info);
    return info;
}

/* The length that a library has written as its first number. MKL rounds it to float32, down too: from 2^24 on, where
   a float32 is no longer exact, the next larger one is taken. */
static int length_in(const void *numbers, int64_t kind)
{
    float single = *(const float *)numbers;
    double length = kind != SINGLE && kind != COMPLEX_SINGLE ? *(const double *)numbers
                    : single < 16777216.0F                   ? single
                                                             : nextafterf(single, INFINITY);
    return length < INT_MAX ? (int)length : INT_MAX;
}

typedef struct {
    void *v, *values;
    arena room;
} eigh_space;

static void take_eigh_space(const eigh_plan *plan, eigh_space *space, workspace *work)
{
    size_t size = sizes[plan->kind], real = sizes[plan->kind % COMPLEX_SINGLE];
    space->v = take(&space->room, plan->n * plan->n, size);
    space->values = take(&space->room, plan->n, real);
    work->numbers = take(&space->room, work->length, size);
    work->reals = take(&space->room, work->real_length, real);
    work->integers = take(&space->room, work->integer_length, sizeof(int));
}

/* A = V diag(w) V^H for Hermitian A (n, n) without gaps: w (n) ascending and V column after column, NaN without one. */
EXPORTED int matfn_lapack_eigh(const eigh_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t n = plan->n;
    size_t size = sizes[kind], real = sizes[kind % COMPLEX_SINGLE];
    char asked[4 * ALIGNMENT] __attribute__((aligned(ALIGNMENT)));
    workspace work = {asked, asked + ALIGNMENT, (int *)(asked + 2 * ALIGNMENT), -1, -1, -1};
    int threads = one_thread(library), unasked = diagonalise(library, kind, n, asked + 3 * ALIGNMENT, asked, &work);
    as_before(library, threads);
    if (unasked)
        return REFUSED;
    work.length = length_in(work.numbers, kind);
    work.real_length = kind < COMPLEX_SINGLE ? 0 : length_in(work.reals, kind);
    work.integer_length = *work.integers;
    eigh_space space = {.room = {0}};
    take_eigh_space(plan, &space, &work);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_eigh_space(plan, &space, &work);
    void *values = space.values;
    threads = one_thread(library);
    for (int64_t item = first; item < last; item++) {
        const char *from = item_of(plan->a, item, n * n, size);
        char *to = plan->v + item * n * n * size, *made = is_aligned(to) ? to : space.v;
        int has_none = !is_finite(from, n * n, kind);
        if (kind < COMPLEX_SINGLE)
            memcpy(made, from, n * n * size);
        else
            conjugate(made, from, n * n, kind);
        if (has_none || diagonalise(library, kind, n, made, values, &work)) {
            fill_with_nan(made, n * n * size, kind);
            fill_with_nan(values, n * real, kind);
        }
        if (made != to)
            memcpy(to, made, n * n * size);
        memcpy(plan->w + item * n * real, values, n * real);
    }
    as_before(library, threads);
    release(&space.room);
    return DONE;
}

typedef void (*real_svd)(
    const char *, const int *, const int *, void *, const int *, void *, void *, const int *, void *, const int *,
    void *, const int *, int *, int *);
typedef void (*complex_svd)(
    const char *, const int *, const int *, void *, const int *, void *, void *, const int *, void *, const int *,
    void *, const int *, void *, int *, int *);

/* A matrix and its decomposition as Fortran sees them:
   (rows, columns) = left (rows, rank) diag right (rank, columns); job "N" computes the diagonal alone. */
typedef struct {
    int rows, columns, rank;
    void *matrix, *values, *left, *right;
    const char *job;
} decomposition;

static int decompose(int64_t library, int64_t kind, decomposition *of, workspace *space)
{
    routine found = libraries[library].routines[GESDD][kind];
    int rows = leading(of->rows), rank = leading(of->rank), info = 0;
    if (kind < COMPLEX_SINGLE)
        ((real_svd)found)(of->job, &of->rows, &of->columns, of->matrix, &rows, of->values, of->left, &rows,
                          of->right, &rank, space->numbers, &space->length, space->integers, &info);
    else
        ((complex_svd)found)(of->job, &of->rows, &of->columns, of->matrix, &rows, of->values, of->left, &rows,
                             of->right, &rank, space->numbers, &space->length, space->reals, space->integers,
                             &info);
    return info;
}

static void take_svd_space(const svd_plan *plan, arena *room, decomposition *of, workspace *work)
{
    size_t size = sizes[plan->kind], real = sizes[plan->kind % COMPLEX_SINGLE];
    int64_t k = of->rank, longer = plan->m < plan->n ? plan->n : plan->m;
    int64_t reals = k * (5 * k + 7 > 2 * longer + 2 * k + 1 ? 5 * k + 7 : 2 * longer + 2 * k + 1);
    of->matrix = take(room, plan->m * plan->n, size);
    of->values = take(room, k, real);
    of->right = take(room, plan->u ? plan->m * k : 1, size);
    of->left = take(room, plan->u ? k * plan->n : 1, size);
    work->numbers = take(room, work->length, size);
    work->reals = take(room, plan->kind < COMPLEX_SINGLE ? 0 : reals, real);
    work->integers = take(room, 8 * k, sizeof(int));
}

/* M = U diag(sigma) V^H for M (m, n), all without gaps: U (m, k), sigma (k) descending, V^H (k, n), NaN without one.
   Without u and vh in the plan, sigma alone. */
EXPORTED int matfn_lapack_svd(const svd_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t m = plan->m, n = plan->n;
    size_t size = sizes[kind], real = sizes[kind % COMPLEX_SINGLE];
    int64_t k = m < n ? m : n;
    char asked[4 * ALIGNMENT] __attribute__((aligned(ALIGNMENT)));
    workspace work = {asked, asked + ALIGNMENT, (int *)(asked + 2 * ALIGNMENT), -1, 0, 0};
    /* Fortran sees M^T = (V^H)^T diag(sigma) U^T, whose factors, column after column, are V^H and U row by row. */
    void *nothing = asked + 3 * ALIGNMENT;
    decomposition of = {n, m, k, nothing, nothing, nothing, nothing, plan->u ? "S" : "N"};
    int threads = one_thread(library), unasked = decompose(library, kind, &of, &work);
    as_before(library, threads);
    if (unasked)
        return REFUSED;
    work.length = length_in(work.numbers, kind);
    arena room = {0};
    take_svd_space(plan, &room, &of, &work);
    if (!reserve(&room))
        return OUT_OF_MEMORY;
    take_svd_space(plan, &room, &of, &work);
    threads = one_thread(library);
    for (int64_t item = first; item < last; item++) {
        memcpy(of.matrix, item_of(plan->given, item, m * n, size), m * n * size);
        if (!is_finite(of.matrix, m * n, kind) || decompose(library, kind, &of, &work)) {
            fill_with_nan(of.values, k * real, kind);
            if (plan->u) {
                fill_with_nan(of.left, k * n * size, kind);
                fill_with_nan(of.right, m * k * size, kind);
            }
        }
        memcpy(plan->sigma + item * k * real, of.values, k * real);
        if (plan->u) {
            memcpy(plan->u + item * m * k * size, of.right, m * k * size);
            memcpy(plan->vh + item * k * n * size, of.left, k * n * size);
        }
    }
    as_before(library, threads);
    release(&room);
    return DONE;
}

typedef void (*getrf)(const int *, const int *, void *, const int *, int *, int *);
typedef void (*getrs)(
    const char *, const int *, const int *, const void *, const int *, const int *, void *, const int *, int *);

typedef struct {
    void *factors;
    char *inverse;
    int *pivots;
    arena room;
} inverses_space;

static void take_inverses_space(const inverses_plan *plan, inverses_space *space)
{
    space->factors = take(&space->room, plan->n * plan->n, sizes[plan->kind]);
    space->inverse = take(&space->room, plan->n * plan->n, sizes[plan->kind]);
    space->pivots = take(&space->room, plan->n, sizeof(int));
}

/* A^-1 of A (n, n) without gaps, NaN where there is none. */
EXPORTED int matfn_lapack_inverses(const inverses_plan *plan, int64_t first, int64_t last)
{
    int64_t library = plan->library, kind = plan->kind;
    int64_t n = plan->n;
    size_t size = sizes[kind];
    inverses_space space = {.room = {0}};
    take_inverses_space(plan, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_inverses_space(plan, &space);
    void *factors = space.factors;
    char *inverse = space.inverse;
    int *pivots = space.pivots;
    int order = n, step = leading(n), threads = one_thread(library);
    for (int64_t item = first; item < last; item++) {
        int info = 1;
        memcpy(factors, item_of(plan->a, item, n * n, size), n * n * size);
        memset(inverse, 0, n * n * size);
        for (int64_t i = 0; i < n; i++)
            memcpy(inverse + i * (n + 1) * size, unit(kind), size);
        if (is_finite(factors, n * n, kind))
            ((getrf)libraries[library].routines[GETRF][kind])(&order, &order, factors, &step, pivots, &info);
        if (!info)
            ((getrs)libraries[library].routines[GETRS][kind])("N", &order, &order, factors, &step, pivots, inverse,
                                                              &step, &info);
        if (info)
            fill_with_nan(inverse, n * n * size, kind);
        memcpy(plan->out + item * n * n * size, inverse, n * n * size);
    }
    as_before(library, threads);
    release(&space.room);
    return DONE;
}

typedef void (*real_gees)(
    const char *, const char *, const void *, const int *, double *, const int *, int *, double *, double *, double *,
    const int *, double *, const int *, int *, int *);
typedef void (*complex_gees)(
    const char *, const char *, const void *, const int *, double *, const int *, int *, double *, double *,
    const int *, double *, const int *, double *, int *, int *);

/* T and Q column by column, eigenvalues in two arrays or in one, and the workspace. */
typedef struct {
    double *t, *q, *values, *more, *numbers;
    int length; /* -1 to ask how long it ought to be */
    arena room;
} schur_space;

static void take_schur_space(const schur_plan *plan, schur_space *space)
{
    int64_t n = plan->n, size = sizes[plan->kind];
    space->t = take(&space->room, n * n, size);
    space->q = take(&space->room, n * n, size);
    space->values = take(&space->room, n, size);
    space->more = take(&space->room, n, sizeof(double));
    space->numbers = take(&space->room, space->length, size);
}

/* T <- the Schur form Q^H T Q; 0 if there is one. */
static int triangulate(const schur_plan *plan, const schur_space *space)
{
    routine found = libraries[plan->library].routines[GEES][plan->kind];
    int order = plan->n, step = leading(plan->n), sorted = 0, nothing = 0, info = 0;
    if (plan->kind == DOUBLE)
        ((real_gees)found)("V", "N", 0, &order, space->t, &step, &sorted, space->values, space->more, space->q, &step,
                           space->numbers, &space->length, &nothing, &info);
    else
        ((complex_gees)found)("V", "N", 0, &order, space->t, &step, &sorted, space->values, space->q, &step,
                              space->numbers, &space->length, space->more, &nothing, &info);
    return info;
}

/* Makes the block of T with its last row m triangular: (i w, c) is an eigenvector of ((a, b), (c, a)) with w^2 = -b c,
   and (c, i w) orthogonal to it. */
static void split_block(int64_t n, int64_t m, double _Complex *t, double _Complex *q)
{
    double a = creal(t[m * n + m]), c = creal(t[m * n + m - 1]);
    double w = sqrt(fabs(creal(t[(m - 1) * n + m]))) * sqrt(fabs(c)), r = hypot(w, c);
    double _Complex u = CMPLX(0, w / r), *upper = t + (m - 1) * n, *lower = t + m * n;
    double v = c / r;
    for (int64_t j = m - 1; j < n; j++) {
        double _Complex x = upper[j], y = lower[j];
        upper[j] = v * y - u * x;
        lower[j] = v * x - u * y;
    }
    for (int64_t i = 0; i < n; i++) {
        double _Complex *row = q + i * n + m, x = row[-1], y = row[0];
        row[-1] = u * x + v * y;
        row[0] = v * x + u * y;
        if (i > m)
            continue;
        row = t + i * n + m;
        x = row[-1];
        y = row[0];
        row[-1] = u * x + v * y;
        row[0] = v * x + u * y;
    }
    lower[m - 1] = 0;
    upper[m - 1] = CMPLX(a, w);
    lower[m] = CMPLX(a, -w);
}

/* A = Q T Q^H for A (n, n) without gaps, T upper triangular, both row by row and complex; NaN without one. */
EXPORTED int matfn_lapack_schur(const schur_plan *plan, int64_t first, int64_t last)
{
    int64_t n = plan->n, is_real = plan->kind == DOUBLE;
    double asked[8] __attribute__((aligned(ALIGNMENT)));
    schur_space space = {asked, asked + 2, asked + 4, asked + 6, asked, -1, {0}};
    int threads = one_thread(plan->library), unasked = triangulate(plan, &space);
    as_before(plan->library, threads);
    if (unasked)
        return REFUSED;
    space.length = length_in(space.numbers, plan->kind);
    take_schur_space(plan, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_schur_space(plan, &space);
    threads = one_thread(plan->library);
    for (int64_t item = first; item < last; item++) {
        const double *a = (const double *)(const void *)item_of(plan->a, item, n * n, sizes[plan->kind]);
        double _Complex *t = (double _Complex *)(void *)plan->t + item * n * n;
        double _Complex *q = (double _Complex *)(void *)plan->q + item * n * n;
        int parts = is_real ? 1 : 2;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                memcpy(space.t + (j * n + i) * parts, a + (i * n + j) * parts, parts * sizeof(double));
        if (!is_finite(a, n * n, plan->kind) || triangulate(plan, &space)) {
            fill_with_nan(t, 2 * n * n * sizeof(double), DOUBLE);
            fill_with_nan(q, 2 * n * n * sizeof(double), DOUBLE);
            continue;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                const double *of_t = space.t + (j * n + i) * parts, *of_q = space.q + (j * n + i) * parts;
                t[i * n + j] = CMPLX(of_t[0], is_real ? 0 : of_t[1]);
                q[i * n + j] = CMPLX(of_q[0], is_real ? 0 : of_q[1]);
            }
        for (int64_t m = n - 1; is_real && m > 0; m--)
            if (t[m * n + m - 1] != 0)
                split_block(n, m, t, q);
    }
    as_before(plan->library, threads);
    release(&space.room);
    return DONE;
}

/* A = Q T Q^T for real A (n, n) without gaps, or A^T, T upper triangular but for blocks of two rows; NaN without one. */
EXPORTED int matfn_lapack_real_schur(const real_schur_plan *plan, int64_t first, int64_t last)
{
    int64_t n = plan->n;
    schur_plan of = {.library = plan->library, .kind = plan->kind, .n = n};
    double asked[8] __attribute__((aligned(ALIGNMENT)));
    schur_space space = {asked, asked + 2, asked + 4, asked + 6, asked, -1, {0}};
    int threads = one_thread(of.library), unasked = triangulate(&of, &space);
    as_before(of.library, threads);
    if (unasked)
        return REFUSED;
    space.length = length_in(space.numbers, of.kind);
    take_schur_space(&of, &space);
    if (!reserve(&space.room))
        return OUT_OF_MEMORY;
    take_schur_space(&of, &space);
    threads = one_thread(of.library);
    for (int64_t item = first; item < last; item++) {
        const double *a = (const double *)(const void *)plan->a + item * n * n;
        double *t = (double *)(void *)plan->t + item * n * n, *q = (double *)(void *)plan->q + item * n * n;
        for (int64_t i = 0; i < n; i++) /* Fortran sees A^T */
            for (int64_t j = 0; j < n; j++)
                space.t[j * n + i] = plan->turned ? a[j * n + i] : a[i * n + j];
        if (!is_finite(a, n * n, of.kind) || triangulate(&of, &space)) {
            fill_with_nan(t, n * n * sizeof(double), DOUBLE);
            fill_with_nan(q, n * n * sizeof(double), DOUBLE);
            continue;
        }
        memcpy(t, space.t, n * n * sizeof(double));
        memcpy(q, space.q, n * n * sizeof(double));
    }
    as_before(of.library, threads);
    release(&space.room);
    return DONE;
}

/* sqrt(sum of x^2); no square under- or overflows. */
static double length_of(int64_t count, const double *x)
{
    double sums[4] = {0}, peak = 0;
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (int j = 0; j < 4; j++)
            sums[j] += x[i + j] * x[i + j];
    for (; i < count; i++)
        sums[0] += x[i] * x[i];
    double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    if (sum > 1e-250 && sum < 1e300)
        return sqrt(sum);
    for (i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return INFINITY;
        peak = fabs(x[i]) > peak ? fabs(x[i]) : peak;
    }
    sum = 0;
    for (i = 0; peak > 0 && i < count; i++)
        sum += x[i] / peak * (x[i] / peak);
    return peak * sqrt(sum);
}

enum { NO_EXPONENT = -100000, FARTHEST = 200, SINGLE_RANGE = 100, DOUBLE_RANGE = 900, DIGITS = 53, ROUNDS = 3 };

/* high + low <- high + low + sign (x + y), y of null nothing: the error of a sum in two numbers goes to low. */
static void add_in_two(int64_t count, double sign, const double *x, const double *y, double *high, double *low)
{
    for (int64_t i = 0; i < count; i++) {
        double term = sign * x[i], sum = high[i] + term, part = sum - high[i];
        low[i] += (high[i] - (sum - part)) + (term - part) + (y ? sign * y[i] : 0);
        high[i] = sum;
    }
}

/* Of the largest magnitude, which is below 2^exponent. */
static int exponent_of(int64_t count, const double *x)
{
    double peak = 0;
    int exponent;
    for (int64_t i = 0; i < count; i++)
        peak = fabs(x[i]) > peak ? fabs(x[i]) : peak;
    if (!isfinite(peak))
        return -NO_EXPONENT;
    frexp(peak, &exponent);
    return peak > 0 ? exponent : NO_EXPONENT;
}

/* Whether numbers of that size can be scaled without a look at each step; others are left to another method. */
static int in_range(int exponent) { return exponent == NO_EXPONENT || abs(exponent) <= FARTHEST; }

#define PARTS_OF(type) ((int64_t)(sizeof(type) / sizeof(double)))

#define NUMBER double
#define CONJUGATE(x) (x)
#define MAGNITUDE(x) fabs(x)
#define ROUNDED_TO(x) ((double)(float)(x))
#define OF(name) name##_real
#include "riccati.inc"

#define NUMBER double _Complex
#define CONJUGATE(x) conj(x)
#define MAGNITUDE(x) cabs(x)
#define ROUNDED_TO(x) CMPLX((float)creal(x), (float)cimag(x))
#define OF(name) name##_complex
#include "riccati.inc"

/* Stabilising solutions X (n, n) of plain Riccati equations, and gains K (m, n) if there is room for them; zeros where
   RICCATI_FOUND is 0. */
EXPORTED int matfn_lapack_riccati(const riccati_plan *plan, int64_t first, int64_t last)
{
    return plan->kind == DOUBLE ? riccati_batch_real(plan, first, last) : riccati_batch_complex(plan, first, last);
}
