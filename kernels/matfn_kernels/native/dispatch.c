/* The entry points, which use the widest instruction set that the processor has. */
#include "native.h"

#define EXPORTED __attribute__((visibility("default")))

extern const native_table matfn_table_baseline;

#if defined(__x86_64__)
extern const native_table matfn_table_avx2, matfn_table_avx512;
#endif

static const native_table *chosen = &matfn_table_baseline;
static const char *name = "baseline";

__attribute__((constructor)) static void choose(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
        chosen = &matfn_table_avx512;
        name = "avx512";
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        chosen = &matfn_table_avx2;
        name = "avx2";
    }
#endif
}

EXPORTED const char *matfn_native_variant(void) { return name; }

EXPORTED int matfn_roots_f32(const roots_plan *plan, const float *a, float *out, float *other, double *findings)
{
    return chosen->roots_f32(plan, a, out, other, findings);
}

EXPORTED int matfn_roots_f64(const roots_plan *plan, const double *a, double *out, double *other, double *findings)
{
    return chosen->roots_f64(plan, a, out, other, findings);
}
