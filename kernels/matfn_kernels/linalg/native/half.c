/* Products of bf16 numbers that are added in floats, by AMX.

   Operands are tiles of HALF_TILE numbers: 16 rows of 32, row by row, or 16 columns of 32, whose numbers lie in pairs
   of one below the other, as the instruction reads them. */
#include <immintrin.h>
#include <stdint.h>

#include "native.h"

typedef struct {
    uint8_t palette, start, unused[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} configuration;

/* Eight tiles of 16 rows of 64 bytes. Not on the stack: GCC takes it that the instruction reads 8 bytes. */
static const configuration TILES = {
    .palette = 1,
    .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

static void begin(void) { _tile_loadconfig(&TILES); }

static void end(void) { _tile_release(); }

static void multiply(
    int64_t count, const uint16_t *x, int64_t x_gap, const uint16_t *y, int64_t y_gap, int adds, float *out)
{
    if (adds) {
        _tile_loadd(0, out, 128);
        _tile_loadd(1, out + 16, 128);
        _tile_loadd(2, out + 512, 128);
        _tile_loadd(3, out + 528, 128);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < count; k++, x += HALF_TILE, y += HALF_TILE) {
        _tile_loadd(4, x, 64);
        _tile_loadd(6, y, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, y + y_gap, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + x_gap, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    _tile_stored(2, out + 512, 128);
    _tile_stored(3, out + 528, 128);
}

/* What rounding takes from 16 numbers. */
static inline __m512 lost(__m512 x, __m512i rounded)
{
    return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(rounded, 16)));
}

static inline __m512 lost_low(__m512 x, __m512i pairs)
{
    return lost(x, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs)));
}

static inline __m512 lost_high(__m512 x, __m512i pairs)
{
    return lost(x, _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1)));
}

static inline __m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/* The rows of a block in two tiles; `rest` takes what rounding leaves. */
static void rows_of(const float *block, uint16_t *upper, uint16_t *lower, uint16_t *upper_rest, uint16_t *lower_rest)
{
    for (int i = 0; i < 32; i++, block += 32) {
        uint16_t *to = (i < 16 ? upper : lower) + i % 16 * 32;
        __m512 low = _mm512_load_ps(block), high = _mm512_load_ps(block + 16);
        __m512i pairs = rounded(low, high);
        _mm512_store_si512(to, pairs);
        if (upper_rest)
            _mm512_store_si512((i < 16 ? upper_rest : lower_rest) + i % 16 * 32,
                               rounded(lost_low(low, pairs), lost_high(high, pairs)));
    }
}

/* The columns of a block in two tiles. */
static void columns_of(const float *block, uint16_t *left, uint16_t *right, uint16_t *left_rest, uint16_t *right_rest)
{
    __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                     20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int side = 0; side < 2; side++) {
        uint16_t *to = side ? right : left, *rest = side ? right_rest : left_rest;
        for (int p = 0; p < 16; p++) {
            const float *from = block + p * 64 + side * 16;
            __m512 first = _mm512_load_ps(from), second = _mm512_load_ps(from + 32);
            __m512i pairs = rounded(first, second);
            _mm512_store_si512(to + p * 32, _mm512_permutexvar_epi16(order, pairs));
            if (rest)
                _mm512_store_si512(rest + p * 32,
                                   _mm512_permutexvar_epi16(
                                       order, rounded(lost_low(first, pairs), lost_high(second, pairs))));
        }
    }
}

const half_table matfn_half_amx = {begin, end, multiply, rows_of, columns_of};
