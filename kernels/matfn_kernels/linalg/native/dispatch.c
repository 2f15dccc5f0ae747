/* The entry points, which use the widest instruction set that the processor has. */
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "native.h"

#define EXPORTED __attribute__((visibility("default")))

extern const native_table matfn_table_baseline;
extern const lockstep_table matfn_lockstep_baseline;

#if defined(__x86_64__)
extern const native_table matfn_table_avx2, matfn_table_avx512;
extern const lockstep_table matfn_lockstep_avx2, matfn_lockstep_avx512;
#endif
#if defined(WITH_AMX)
extern const half_table matfn_half_amx;
#endif

typedef struct {
    const char *name;
    const native_table *table;
    const lockstep_table *lockstep;
    const half_table *half; /* null where there are no products of bf16 numbers */
} variant;

#define BASELINE {"baseline", &matfn_table_baseline, &matfn_lockstep_baseline, 0}

static variant chosen = BASELINE;

#if defined(__x86_64__)

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

#endif
#if defined(WITH_AMX)

/* Whether the processor multiplies bf16 numbers in tiles and rounds to them, and the system keeps tiles for this
   process. Older compilers have no names for that. */
static int has_amx(void)
{
#if defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d, low, high, tiles = 3u << 17;
    if (!has_avx512() || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & tiles) == tiles && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

#endif

/* Uses a variant by its name; 0 if this processor has it. */
EXPORTED int matfn_native_use(const char *name)
{
    variant wanted = BASELINE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0 && has_avx512())
        wanted = (variant){"avx512", &matfn_table_avx512, &matfn_lockstep_avx512, 0};
    if (strcmp(name, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        wanted = (variant){"avx2", &matfn_table_avx2, &matfn_lockstep_avx2, 0};
#endif
#if defined(WITH_AMX)
    if (strcmp(name, "amx") == 0 && has_amx())
        wanted = (variant){"amx", &matfn_table_avx512, &matfn_lockstep_avx512, &matfn_half_amx};
#endif
    if (strcmp(name, wanted.name) != 0)
        return -1;
    chosen = wanted;
    return 0;
}

__attribute__((constructor)) static void use_widest(void)
{
    static const char *const widest_first[] = {"amx", "avx512", "avx2"};
    for (int i = 0; i < 3 && matfn_native_use(widest_first[i]) != 0; i++)
        ;
}

EXPORTED const char *matfn_native_variant(void) { return chosen.name; }

EXPORTED int matfn_roots_f32(const roots_plan *plan, const float *a, float *out, float *other, double *findings)
{
    return chosen.table->roots_f32(plan, a, out, other, findings);
}

EXPORTED int matfn_roots_f64(const roots_plan *plan, const double *a, double *out, double *other, double *findings)
{
    return chosen.table->roots_f64(plan, a, out, other, findings);
}

EXPORTED int matfn_triangles_f32(const triangles_plan *plan, const float *t, float *out, double *findings)
{
    return chosen.table->triangles_f32(plan, t, out, findings);
}

EXPORTED int matfn_triangles_f64(const triangles_plan *plan, const double *t, double *out, double *findings)
{
    return chosen.table->triangles_f64(plan, t, out, findings);
}

EXPORTED int matfn_solves_f32(const solves_plan *plan, const float *t, const float *b, float *x, double *findings)
{
    return chosen.table->solves_f32(plan, t, b, x, findings);
}

EXPORTED int matfn_solves_f64(const solves_plan *plan, const double *t, const double *b, double *x, double *findings)
{
    return chosen.table->solves_f64(plan, t, b, x, findings);
}

EXPORTED int matfn_polar_f32(const polar_plan *plan, const float *m, float *out, double *findings)
{
    return chosen.table->polar_factors(plan, m, out, findings);
}

EXPORTED int matfn_gram_f32(const tall_plan *plan, const float *m, double *out)
{
    return chosen.table->grams(plan, m, out);
}

EXPORTED int matfn_image_f32(
    const tall_plan *plan, const float *m, const double *vectors, const double *h, float *out, double *findings)
{
    return chosen.table->images(plan, m, vectors, h, out, findings);
}

EXPORTED int matfn_low_rank_f32(
    const low_rank_plan *plan, const float *diagonal, const float *q, const float *k, const float *b, float *out)
{
    return chosen.table->low_rank_f32(plan, diagonal, q, k, b, out);
}

EXPORTED int matfn_low_rank_f64(
    const low_rank_plan *plan, const double *diagonal, const double *q, const double *k, const double *b, double *out)
{
    return chosen.table->low_rank_f64(plan, diagonal, q, k, b, out);
}

EXPORTED void matfn_sums_f32(int64_t rows, int64_t length, const float *x, double *out)
{
    chosen.table->sums_f32(rows, length, x, out);
}

EXPORTED void matfn_sums_f64(int64_t rows, int64_t length, const double *x, double *out)
{
    chosen.table->sums_f64(rows, length, x, out);
}

EXPORTED void matfn_norms_f32(int64_t rows, int64_t length, const float *x, float *out)
{
    chosen.table->norms_f32(rows, length, x, out);
}

EXPORTED void matfn_norms_f64(int64_t rows, int64_t length, const double *x, double *out)
{
    chosen.table->norms_f64(rows, length, x, out);
}

EXPORTED void matfn_peaks_f32(int64_t rows, int64_t length, const float *x, float *out)
{
    chosen.table->peaks_f32(rows, length, x, out);
}

EXPORTED void matfn_peaks_f64(int64_t rows, int64_t length, const double *x, double *out)
{
    chosen.table->peaks_f64(rows, length, x, out);
}

EXPORTED void matfn_triangle_peaks_f32(
    int64_t items, int64_t order, int64_t upper, int64_t strict, const float *x, float *out)
{
    chosen.table->triangle_peaks_f32(items, order, upper, strict, x, out);
}

EXPORTED void matfn_triangle_peaks_f64(
    int64_t items, int64_t order, int64_t upper, int64_t strict, const double *x, double *out)
{
    chosen.table->triangle_peaks_f64(items, order, upper, strict, x, out);
}

EXPORTED void matfn_symmetric_peaks_f32(int64_t items, int64_t order, const float *x, float *out)
{
    chosen.table->symmetric_peaks_f32(items, order, x, out);
}

EXPORTED void matfn_symmetric_peaks_f64(int64_t items, int64_t order, const double *x, double *out)
{
    chosen.table->symmetric_peaks_f64(items, order, x, out);
}

EXPORTED int matfn_multiples_f32(const rows_plan *plan, const float *x, const double *factors, float *out, float *peaks)
{
    return chosen.table->multiples_f32(plan, x, factors, out, peaks);
}

EXPORTED int matfn_multiples_f64(
    const rows_plan *plan, const double *x, const double *factors, double *out, double *peaks)
{
    return chosen.table->multiples_f64(plan, x, factors, out, peaks);
}

/* Backward error and skewness (2, items) that the laws do not explain, of A = V^T diag(w) V with V (items, rows, n) row
   by row; without A and w, skewness alone. The space is 3 PROBES times the columns. */
EXPORTED void matfn_unexplained_f32(
    const residuals_plan *plan, const float *a, const float *w, const float *v, double *space, double *out)
{
    chosen.table->unexplained_f32(plan, a, w, v, space, out);
}

EXPORTED void matfn_unexplained_f64(
    const residuals_plan *plan, const double *a, const double *w, const double *v, double *space, double *out)
{
    chosen.table->unexplained_f64(plan, a, w, v, space, out);
}

/* Runs a program on balls for some matrices of its batch. */
EXPORTED int matfn_balls(const balls_plan *plan, int64_t first, int64_t last)
{
    return chosen.table->balls(plan, first, last);
}

EXPORTED int matfn_spectral_f32(const spectral_plan *plan, const float *a, float *out, float *other, double *findings)
{
    return chosen.table->spectral_f32(plan, a, out, other, findings);
}

EXPORTED int matfn_spectral_f64(
    const spectral_plan *plan, const double *a, double *out, double *other, double *findings)
{
    return chosen.table->spectral_f64(plan, a, out, other, findings);
}

EXPORTED int matfn_clips_f32(const clip_plan *plan, const float *a, float *out, double *findings)
{
    return chosen.table->clips_f32(plan, a, out, findings);
}

EXPORTED int matfn_clips_f64(const clip_plan *plan, const double *a, double *out, double *findings)
{
    return chosen.table->clips_f64(plan, a, out, findings);
}

EXPORTED int matfn_svd_f32(const tall_plan *plan, const float *m, float *u, float *sigma, float *vh)
{
    return chosen.table->svds_f32(plan, m, u, sigma, vh);
}

EXPORTED int matfn_svd_f64(const tall_plan *plan, const double *m, double *u, double *sigma, double *vh)
{
    return chosen.table->svds_f64(plan, m, u, sigma, vh);
}

EXPORTED int matfn_gram_polar_f32(const gram_polar_plan *plan, const float *m, float *out, double *findings)
{
    return chosen.table->gram_polars(plan, m, out, findings);
}

/* Clippings from above alone. */
EXPORTED int matfn_gram_polar_f64(const gram_polar_plan *plan, const double *m, double *out, double *findings)
{
    return chosen.table->singular_clips(plan, m, out, findings);
}

EXPORTED int matfn_exponentials_f64(const exponentials_plan *plan, const double *a, double *out, double *findings)
{
    return chosen.table->exponentials(plan, a, out, findings);
}

/* Solves some of the equations of a plan. */
EXPORTED int matfn_sylvester(const sylvester_plan *plan, int64_t first, int64_t last)
{
    return chosen.table->sylvester(plan, first, last);
}

/* REFUSED where the variant has no products of bf16 numbers. */
EXPORTED int matfn_half_polar_f32(const polar_plan *plan, const float *m, float *out, double *findings)
{
    return chosen.half ? chosen.table->half_polars(chosen.half, plan, m, out, findings) : REFUSED;
}

EXPORTED int matfn_upper_functions_c128(const upper_plan *plan, const double *t, double *out, double *findings)
{
    return chosen.table->upper_functions(plan, t, out, findings);
}

EXPORTED int matfn_eigh_f32(const lockstep_plan *plan, const float *a, float *w, float *v)
{
    return chosen.lockstep->eigh_f32(plan, a, w, v);
}

EXPORTED int matfn_eigh_f64(const lockstep_plan *plan, const double *a, double *w, double *v)
{
    return chosen.lockstep->eigh_f64(plan, a, w, v);
}

EXPORTED int matfn_eigh_c64(const lockstep_plan *plan, const float *a, float *w, float *v)
{
    return chosen.lockstep->eigh_c64(plan, a, w, v);
}

EXPORTED int matfn_eigh_c128(const lockstep_plan *plan, const double *a, double *w, double *v)
{
    return chosen.lockstep->eigh_c128(plan, a, w, v);
}
