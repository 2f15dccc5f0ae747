/* The contract with Python, which compares it with its own when it loads the library: numbers, structures field by
   field, and the places of findings. */
#include <stddef.h>

#include "native.h"

#define EXPORTED __attribute__((visibility("default")))

/* `kind` is that of Python's struct module: q an integer, d a double, P a pointer; n is a plain number. */
typedef struct {
    const char *name;
    char kind;
    int64_t value;
} term;

#define KIND(field)                                                                                             \
    _Generic(field, int64_t: 'q', double: 'd', char *: 'P', const char *: 'P', const double *: 'P', \
             const int64_t *: 'P')
#define NUMBER(name) {#name, 'n', name}
#define PLACE(findings, name, place) {findings "." name, 'n', place}
#define SIZE(type) {#type, 'n', sizeof(type)}
#define FIELD(type, field) {#type "." #field, KIND(((type *)0)->field), offsetof(type, field)}
#define OPERAND(type, field) \
    FIELD(type, field.at), FIELD(type, field.item), FIELD(type, field.row), FIELD(type, field.stored)

static const term terms[] = {
    NUMBER(PROBES),
    NUMBER(MAX_STEPS),
    NUMBER(RANDOM_FIELDS),
    NUMBER(OUT_OF_MEMORY),
    NUMBER(BALL_FACTS),
    NUMBER(GIVEN),
    NUMBER(DIAGONAL),
    NUMBER(PRODUCT),
    NUMBER(SUM),
    NUMBER(FACTOR),
    NUMBER(INVERSE),
    NUMBER(ROWS_LIKE),
    NUMBER(STRICT),
    NUMBER(WIDER),
    NUMBER(TURNED),
    NUMBER(ROUNDED),
    NUMBER(UPPER_HALF),
    NUMBER(LOWER_HALF),

    SIZE(roots_plan),
    FIELD(roots_plan, items),
    FIELD(roots_plan, order),
    FIELD(roots_plan, k),
    FIELD(roots_plan, s),
    FIELD(roots_plan, r),
    FIELD(roots_plan, whole_s),
    FIELD(roots_plan, whole_r),
    FIELD(roots_plan, identity_too),
    FIELD(roots_plan, schedules),
    FIELD(roots_plan, floor),
    FIELD(roots_plan, bound),
    FIELD(roots_plan, reach),
    FIELD(roots_plan, probes),
    FIELD(roots_plan, bounds),
    FIELD(roots_plan, steps),
    FIELD(roots_plan, coefficients),

    NUMBER(ROOT_FINDINGS),
    PLACE("ROOT_FINDINGS", "definite", DEFINITE),
    PLACE("ROOT_FINDINGS", "asymmetry", ASYMMETRY),
    PLACE("ROOT_FINDINGS", "smallest", SMALLEST),
    PLACE("ROOT_FINDINGS", "largest", LARGEST),
    PLACE("ROOT_FINDINGS", "residual", RESIDUAL),
    PLACE("ROOT_FINDINGS", "missing", MISSING),
    PLACE("ROOT_FINDINGS", "steps", STEPS),
    PLACE("ROOT_FINDINGS", "exponent", EXPONENT),
    PLACE("ROOT_FINDINGS", "other_exponent", OTHER_EXPONENT),

    SIZE(triangles_plan),
    FIELD(triangles_plan, items),
    FIELD(triangles_plan, order),
    FIELD(triangles_plan, upper),
    FIELD(triangles_plan, unit),
    FIELD(triangles_plan, spacing),
    FIELD(triangles_plan, probes),

    NUMBER(TRIANGLE_FINDINGS),
    PLACE("TRIANGLE_FINDINGS", "residual", TRIANGLE_RESIDUAL),
    PLACE("TRIANGLE_FINDINGS", "error", TRIANGLE_ERROR),
    PLACE("TRIANGLE_FINDINGS", "norm", TRIANGLE_NORM),
    PLACE("TRIANGLE_FINDINGS", "inverse_norm", TRIANGLE_INVERSE),

    SIZE(low_rank_plan),
    FIELD(low_rank_plan, items),
    FIELD(low_rank_plan, order),
    FIELD(low_rank_plan, rank),
    FIELD(low_rank_plan, columns),
    FIELD(low_rank_plan, transposed),
    FIELD(low_rank_plan, inverse),

    SIZE(tall_plan),
    FIELD(tall_plan, items),
    FIELD(tall_plan, rows),
    FIELD(tall_plan, columns),
    FIELD(tall_plan, probes),

    NUMBER(IMAGE_FINDINGS),
    PLACE("IMAGE_FINDINGS", "rounding", IMAGE_ROUNDING),
    PLACE("IMAGE_FINDINGS", "residual", IMAGE_RESIDUAL),
    PLACE("IMAGE_FINDINGS", "skew", IMAGE_SKEW),

    SIZE(polar_plan),
    FIELD(polar_plan, items),
    FIELD(polar_plan, rows),
    FIELD(polar_plan, columns),
    FIELD(polar_plan, schedules),
    FIELD(polar_plan, floor),
    FIELD(polar_plan, reach),
    FIELD(polar_plan, probes),
    FIELD(polar_plan, bounds),
    FIELD(polar_plan, steps),
    FIELD(polar_plan, coefficients),

    NUMBER(POLAR_FINDINGS),
    PLACE("POLAR_FINDINGS", "definite", POLAR_DEFINITE),
    PLACE("POLAR_FINDINGS", "smallest", POLAR_SMALLEST),
    PLACE("POLAR_FINDINGS", "largest", POLAR_LARGEST),
    PLACE("POLAR_FINDINGS", "spread", POLAR_SPREAD),
    PLACE("POLAR_FINDINGS", "residual", POLAR_RESIDUAL),
    PLACE("POLAR_FINDINGS", "gap", POLAR_GAP),
    PLACE("POLAR_FINDINGS", "steps", POLAR_STEPS),

    SIZE(lockstep_plan),
    FIELD(lockstep_plan, items),
    FIELD(lockstep_plan, order),

    SIZE(spectral_plan),
    FIELD(spectral_plan, items),
    FIELD(spectral_plan, order),
    FIELD(spectral_plan, s),
    FIELD(spectral_plan, r),
    FIELD(spectral_plan, inverse),
    FIELD(spectral_plan, pair),
    FIELD(spectral_plan, rule),
    FIELD(spectral_plan, refine),
    FIELD(spectral_plan, damping),
    FIELD(spectral_plan, floor),
    FIELD(spectral_plan, negative),
    FIELD(spectral_plan, noise),
    FIELD(spectral_plan, skew),
    FIELD(spectral_plan, law),
    FIELD(spectral_plan, skew_law),
    FIELD(spectral_plan, margin),
    FIELD(spectral_plan, near),
    FIELD(spectral_plan, least),
    FIELD(spectral_plan, negligible),
    FIELD(spectral_plan, probes),

    NUMBER(NOTHING_ADDED),
    NUMBER(PART_ADDED),
    NUMBER(LEAST_ADDED),
    NUMBER(RANGE_KEPT),
    NUMBER(SPECTRAL_FINDINGS),
    PLACE("SPECTRAL_FINDINGS", "open", SPECTRAL_OPEN),
    PLACE("SPECTRAL_FINDINGS", "condition", SPECTRAL_CONDITION),
    PLACE("SPECTRAL_FINDINGS", "rank", SPECTRAL_RANK),
    PLACE("SPECTRAL_FINDINGS", "damping", SPECTRAL_DAMPING),
    PLACE("SPECTRAL_FINDINGS", "shift", SPECTRAL_SHIFT),
    PLACE("SPECTRAL_FINDINGS", "error", SPECTRAL_ERROR),
    PLACE("SPECTRAL_FINDINGS", "rounding", SPECTRAL_ROUNDING),
    PLACE("SPECTRAL_FINDINGS", "residual", SPECTRAL_RESIDUAL),
    PLACE("SPECTRAL_FINDINGS", "asymmetry", SPECTRAL_ASYMMETRY),

    SIZE(residuals_plan),
    FIELD(residuals_plan, items),
    FIELD(residuals_plan, rows),
    FIELD(residuals_plan, columns),
    FIELD(residuals_plan, probes),
    FIELD(residuals_plan, law),
    FIELD(residuals_plan, skew_law),
    FIELD(residuals_plan, margin),

    SIZE(products_plan),
    FIELD(products_plan, library),
    FIELD(products_plan, kind),
    FIELD(products_plan, m),
    FIELD(products_plan, k),
    FIELD(products_plan, n),
    FIELD(products_plan, panel),
    OPERAND(products_plan, x),
    OPERAND(products_plan, y),
    FIELD(products_plan, out),
    FIELD(products_plan, alpha),
    FIELD(products_plan, beta),

    SIZE(substitutions_plan),
    FIELD(substitutions_plan, library),
    FIELD(substitutions_plan, kind),
    FIELD(substitutions_plan, n),
    FIELD(substitutions_plan, m),
    FIELD(substitutions_plan, upper),
    FIELD(substitutions_plan, has_ones),
    OPERAND(substitutions_plan, t),
    FIELD(substitutions_plan, b),

    SIZE(cholesky_plan),
    FIELD(cholesky_plan, library),
    FIELD(cholesky_plan, kind),
    FIELD(cholesky_plan, n),
    FIELD(cholesky_plan, a),
    FIELD(cholesky_plan, exists),

    SIZE(eigh_plan),
    FIELD(eigh_plan, library),
    FIELD(eigh_plan, kind),
    FIELD(eigh_plan, n),
    FIELD(eigh_plan, a),
    FIELD(eigh_plan, w),
    FIELD(eigh_plan, v),

    SIZE(svd_plan),
    FIELD(svd_plan, library),
    FIELD(svd_plan, kind),
    FIELD(svd_plan, m),
    FIELD(svd_plan, n),
    FIELD(svd_plan, given),
    FIELD(svd_plan, u),
    FIELD(svd_plan, sigma),
    FIELD(svd_plan, vh),

    SIZE(inverses_plan),
    FIELD(inverses_plan, library),
    FIELD(inverses_plan, kind),
    FIELD(inverses_plan, n),
    FIELD(inverses_plan, a),
    FIELD(inverses_plan, out),

    SIZE(ball_step),
    FIELD(ball_step, code),
    FIELD(ball_step, x),
    FIELD(ball_step, y),
    FIELD(ball_step, out),
    FIELD(ball_step, x_view),
    FIELD(ball_step, y_view),
    FIELD(ball_step, doubled),
    FIELD(ball_step, symmetric),
    FIELD(ball_step, sign),
    FIELD(ball_step, factor),
    FIELD(ball_step, at),
    FIELD(ball_step, exponents),
    FIELD(ball_step, single),
    FIELD(ball_step, unread),
    FIELD(ball_step, ones),

    SIZE(ball_slot),
    FIELD(ball_slot, rows),
    FIELD(ball_slot, columns),
    FIELD(ball_slot, doubled),

    SIZE(balls_plan),
    FIELD(balls_plan, items),
    FIELD(balls_plan, steps),
    FIELD(balls_plan, slots),
    FIELD(balls_plan, largest),
    FIELD(balls_plan, doubled),
    FIELD(balls_plan, step),
    FIELD(balls_plan, slot),
    FIELD(balls_plan, facts),
};

/* One term after the other; null beyond the last. */
EXPORTED const term *matfn_native_contract(int64_t which)
{
    return which >= 0 && which < (int64_t)(sizeof(terms) / sizeof(*terms)) ? terms + which : 0;
}
