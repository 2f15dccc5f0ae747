/* Placeholder. */
#include "native.h"

#define TABLE_OF(variant) matfn_table_##variant
#define TABLE(variant) TABLE_OF(variant)
#define NAME_OF(variant) #variant
#define NAME(variant) NAME_OF(variant)

const struct matfn_table TABLE(VARIANT) = {NAME(VARIANT)};
