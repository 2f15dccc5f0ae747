/* A workspace: buffers that are taken one after the other out of one piece of memory.

   One function takes all buffers of a workspace. It runs twice: without memory, which measures, and after `reserve`,
   which places them. No size is computed anywhere else. */
#ifndef MATFN_ARENA_H
#define MATFN_ARENA_H

#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define FORBID(at, bytes) __asan_poison_memory_region(at, bytes)
#define ALLOW(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define FORBID(at, bytes) ((void)0)
#define ALLOW(at, bytes) ((void)0)
#endif

#define ALIGNMENT 64 /* of every buffer */
#define GAP 64       /* bytes between buffers, which therefore do not share sets of a cache */

typedef struct arena {
    char *base;         /* null while the buffers are measured */
    int64_t used, size; /* bytes taken, and bytes that were measured */
    int64_t held;       /* bytes behind base */
} arena;

/* Room for so many things of that size; null while the buffers are measured. AddressSanitizer reports a use of the gap
   behind them. */
static inline void *take(arena *room, int64_t count, int64_t size)
{
    int64_t bytes = count * size, whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + GAP;
    char *found = room->base ? room->base + room->used : 0;
    if (found)
        FORBID(found + bytes, whole - bytes);
    room->used += whole;
    return found;
}

/* Memory for the buffers that were measured; 0 if there is none. They are taken again then. */
int reserve(arena *room);

/* Lets other buffers be taken, of no more memory. */
void start_again(arena *room);

/* Fills the memory with zeros. The buffers are taken again then. */
void clear(arena *room);

/* Gives the memory back. */
void release(arena *room);

#endif
