/* Placeholder. */
#include "native.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int matfn_native_abi(void) { return 1; }

EXPORTED const char *matfn_native_variant(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return matfn_table_avx512.variant;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return matfn_table_avx2.variant;
#endif
    return matfn_table_baseline.variant;
}
