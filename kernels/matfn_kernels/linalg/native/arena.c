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

/* Nothing is kept where pieces are counted. */
static int take_kept(arena *room)
{
    (void)room;
    return 0;
}

static int keep(arena *room)
{
    (void)room;
    return 0;
}
#else
#include <pthread.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define LARGE_PAGE (2 << 20) /* bytes */
#define KEPT (4 << 20) /* bytes at most that a thread keeps: fresh pages cost a small batch more than its work */

/* The memory that a thread has released last, which it takes again where it is large enough. */
typedef struct {
    char *base;
    int64_t size;
} piece;

static _Thread_local piece kept;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void) { pthread_key_create(&at_exit, free); }

static int take_kept(arena *room)
{
    if (!kept.base || kept.size < room->size)
        return 0;
    room->base = kept.base;
    room->held = kept.size;
    kept = (piece){0};
    pthread_setspecific(at_exit, 0);
    return 1;
}

static int keep(arena *room)
{
    if (room->held > KEPT || room->held <= kept.size)
        return 0;
    pthread_once(&once, make_key);
    if (pthread_setspecific(at_exit, room->base))
        return 0;
    free(kept.base);
    kept = (piece){room->base, room->held};
    return 1;
}

/* Much memory is asked for in large pages: of 4 KB each, the columns of a matrix of order 256 lie in more pages than a
   processor keeps at hand, and each page is fetched from the system by itself. */
static void *allocate(int64_t bytes)
{
    if (bytes < KEPT)
        return aligned_alloc(ALIGNMENT, bytes);
    void *found = aligned_alloc(LARGE_PAGE, (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
#if defined(MADV_HUGEPAGE)
    if (found)
        (void)madvise(found, bytes, MADV_HUGEPAGE);
#endif
    return found;
}

static void deallocate(void *memory) { free(memory); }
#endif

int reserve(arena *room)
{
    room->size = room->used;
    room->used = 0;
    if (take_kept(room))
        return 1;
    room->base = allocate(room->size);
    room->held = room->size;
    return room->base != 0;
}

void start_again(arena *room)
{
    ALLOW(room->base, room->size);
    room->used = 0;
}

void clear(arena *room)
{
    start_again(room);
    memset(room->base, 0, room->size);
}

void release(arena *room)
{
    ALLOW(room->base, room->size);
    if (!keep(room))
        deallocate(room->base);
    room->base = 0;
}
