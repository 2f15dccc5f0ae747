/* Nearly Gaussian numbers that the bits of a matrix seed: whole numbers until the last step, so the same everywhere. */
#include <math.h>
#include <string.h>

#include "native.h"

#define EXPORTED __attribute__((visibility("default")))
#define LANES 4 /* words that are taken at a time, so that no multiplication waits for the one before */

static const uint64_t ODD = 0x9E3779B97F4A7C15, FIRST = 0xBF58476D1CE4E5B9, SECOND = 0x94D049BB133111EB;

/* All bits of x on all bits of the result (SplitMix64; Steele, Lea and Flood, 2014). */
static uint64_t stirred(uint64_t x)
{
    x = (x ^ (x >> 30)) * FIRST;
    x = (x ^ (x >> 27)) * SECOND;
    return x ^ (x >> 31);
}

static uint64_t absorbed(uint64_t lane, uint64_t word)
{
    lane = (lane ^ word) * ODD;
    return lane ^ (lane >> 32);
}

static uint64_t seed_of(int64_t bytes, const unsigned char *at)
{
    uint64_t lanes[LANES] = {1, 2, 3, 4}, words[LANES];
    int64_t size = sizeof(words);
    for (; bytes >= size; bytes -= size, at += size) {
        memcpy(words, at, sizeof(words));
        for (int i = 0; i < LANES; i++)
            lanes[i] = absorbed(lanes[i], words[i]);
    }
    memset(words, 0, sizeof(words));
    memcpy(words, at, bytes);
    uint64_t seed = 0;
    for (int i = 0; i < LANES; i++)
        seed = stirred(absorbed(absorbed(seed, lanes[i]), words[i]));
    return seed;
}

/* Sum of RANDOM_FIELDS numbers of 16 bits, of mean 0 and variance 1. */
static double gaussian(uint64_t x)
{
    double sum = 0;
    for (int i = 0; i < RANDOM_FIELDS; i++)
        sum += (x >> (16 * i)) & 0xFFFF;
    return (sum - RANDOM_FIELDS * 32767.5) / sqrt(RANDOM_FIELDS * (65536. * 65536. - 1) / 12);
}

/* `numbers` numbers for each of `items` matrices of so many bytes. */
EXPORTED void matfn_random_numbers(
    int64_t items, int64_t bytes, const unsigned char *given, int64_t numbers, double *out)
{
    for (int64_t item = 0; item < items; item++, given += bytes) {
        uint64_t seed = seed_of(bytes, given);
        for (int64_t i = 0; i < numbers; i++)
            *out++ = gaussian(stirred(seed += ODD));
    }
}
