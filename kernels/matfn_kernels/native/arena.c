/* The memory of workspaces: all that this library allocates. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"

int reserve(arena *room)
{
    room->size = room->used;
    room->used = 0;
    room->base = aligned_alloc(ALIGNMENT, room->size);
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
    free(room->base);
    room->base = 0;
}
