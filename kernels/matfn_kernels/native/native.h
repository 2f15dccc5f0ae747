/* Placeholder. */
#pragma once

struct matfn_table {
    const char *variant;
};

#ifdef __x86_64__
extern const struct matfn_table matfn_table_avx512, matfn_table_avx2;
#endif
extern const struct matfn_table matfn_table_baseline;
