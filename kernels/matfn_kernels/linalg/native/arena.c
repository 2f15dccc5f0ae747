/* The memory of workspaces: all that this library allocates. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"

#if defined(MATFN_COUNTED) /* by tests */
static _Atomic int64_t pieces, until_failure;

/* How many pieces of memory are reserved. */
__attribute__((visibility("default"))) int64_t matfn_arena_pieces(void) { return pieces; }

/* Lets the reservation of that number fail, counted from 1 and from now on; 0 for none. */
__attribute__((visibility("default"))) void matfn_arena_fail(int64_t which) { until_failure = which; }

static void *allocate(int64_t bytes)
{
    void *found = until_failure > 0 && --until_failure == 0 ? 0 : aligned_alloc(ALIGNMENT, bytes);
    if (found)
        pieces++;
    return found;
}

static void deallocate(void *piece)
{
    pieces--;
    free(piece);
}
#else
static void *allocate(int64_t bytes) { return aligned_alloc(ALIGNMENT, bytes); }

static void deallocate(void *piece) { free(piece); }
#endif

int reserve(arena *room)
{
    room->size = room->used;
    room->used = 0;
    room->base = allocate(room->size);
    return room->base != 0;
}

void clear(arena *room)
{
    ALLOW(room->base, room->size);
    memset(room->base, 0, room->size);
    room->used = 0;
}

void release(arena *room)
{
    ALLOW(room->base, room->size);
    deallocate(room->base);
    room->base = 0;
}
