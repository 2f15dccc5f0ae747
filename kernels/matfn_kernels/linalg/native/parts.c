/* Threads that share the units of some work. Python would hand a part over in more time than small matrices take, since
   a thread that begins there waits for the interpreter's lock. */
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "native.h"

#define EXPORTED __attribute__((visibility("default")))
#define MOST_ARRAYS 5

/* Does the units first..last of a plan; returns DONE or why it did not. */
typedef int unit_work(const void *plan, int64_t first, int64_t last);

/* What a caller shares. It stays on the caller's stack: who helps counts as active until nothing of it is read. */
typedef struct job {
    unit_work *work;
    const void *plan;
    int64_t units, size;
    _Atomic int64_t next;
    _Atomic int status;
    fenv_t mode;        /* of rounding and of subnormal numbers, the caller's */
    int wanted, active; /* threads that may still come, and that are at work */
    pthread_cond_t left;
    struct job *after;
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t come = PTHREAD_COND_INITIALIZER;
static job *waiting; /* jobs that want help, the oldest first */
static int started;  /* threads, none of which ever ends */

static void take_parts(job *of)
{
    for (;;) {
        int64_t first = atomic_fetch_add(&of->next, of->size), last = first + of->size;
        if (first >= of->units)
            return;
        int status = of->work(of->plan, first, last < of->units ? last : of->units);
        if (status != DONE)
            of->status = status;
    }
}

static void forget(const job *of)
{
    for (job **at = &waiting; *at; at = &(*at)->after)
        if (*at == of) {
            *at = of->after;
            return;
        }
}

static void *help(void *nothing)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!waiting)
            pthread_cond_wait(&come, &lock);
        job *of = waiting;
        of->active++;
        if (--of->wanted == 0)
            forget(of);
        pthread_mutex_unlock(&lock);
        fesetenv(&of->mode);
        take_parts(of);
        pthread_mutex_lock(&lock);
        if (--of->active == 0)
            pthread_cond_signal(&of->left);
    }
    return nothing;
}

/* Starts threads up to so many; fewer do the same work. They take no signals, which are the interpreter's. */
static void start(int count)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; started < count && pthread_create(&thread, 0, help, 0) == 0; started++)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

static void offer(job *of)
{
    job **end = &waiting;
    while (*end)
        end = &(*end)->after;
    *end = of;
    for (int i = 0; i < of->wanted; i++)
        pthread_cond_signal(&come);
}

static void hold(void) { pthread_mutex_lock(&lock); }

static void let_go(void) { pthread_mutex_unlock(&lock); }

/* A child has none of its parent's threads. */
static void begin_anew(void)
{
    pthread_mutex_init(&lock, 0);
    pthread_cond_init(&come, 0);
    waiting = 0;
    started = 0;
}

__attribute__((constructor)) static void survive_forks(void) { pthread_atfork(hold, let_go, begin_anew); }

/* Does all units of a plan, `size` at a time, on up to so many threads, of which the caller's is one. */
EXPORTED int matfn_in_parts(unit_work *work, const void *plan, int64_t units, int64_t size, int64_t threads)
{
    int64_t parts = (units + size - 1) / size, helpers = (threads < parts ? threads : parts) - 1;
    if (helpers <= 0)
        return work(plan, 0, units);
    job of = {.work = work, .plan = plan, .units = units, .size = size, .wanted = helpers};
    fegetenv(&of.mode);
    pthread_cond_init(&of.left, 0);
    pthread_mutex_lock(&lock);
    int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
    start(helpers < cores ? helpers : cores);
    offer(&of);
    pthread_mutex_unlock(&lock);
    take_parts(&of);
    pthread_mutex_lock(&lock);
    forget(&of);
    while (of.active)
        pthread_cond_wait(&of.left, &lock);
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&of.left);
    return of.status;
}

/* A function of dispatch.c for a batch: it takes a plan, whose first number is that of the matrices, and arrays. */
typedef struct {
    void *function;
    const void *plan;
    int64_t plan_size, arrays;
    char *const *at;
    const int64_t *steps; /* bytes from one matrix to the next */
} batch;

static int compute(const void *of, int64_t first, int64_t last)
{
    typedef int of_two(void *, void *, void *);
    typedef int of_three(void *, void *, void *, void *);
    typedef int of_four(void *, void *, void *, void *, void *);
    typedef int of_five(void *, void *, void *, void *, void *, void *);
    const batch *given = of;
    int64_t plan[given->plan_size / sizeof(int64_t)];
    void *at[MOST_ARRAYS];
    memcpy(plan, given->plan, sizeof(plan));
    plan[0] = last - first;
    for (int64_t i = 0; i < given->arrays; i++)
        at[i] = given->at[i] ? given->at[i] + first * given->steps[i] : 0;
    switch (given->arrays) {
    case 2:
        return ((of_two *)given->function)(plan, at[0], at[1]);
    case 3:
        return ((of_three *)given->function)(plan, at[0], at[1], at[2]);
    case 4:
        return ((of_four *)given->function)(plan, at[0], at[1], at[2], at[3]);
    case MOST_ARRAYS:
        return ((of_five *)given->function)(plan, at[0], at[1], at[2], at[3], at[4]);
    default:
        return REFUSED;
    }
}

/* Calls a function for the matrices of a batch, as `matfn_in_parts` does. */
EXPORTED int matfn_batch_in_parts(void *function, const void *plan, int64_t plan_size, int64_t arrays, char *const *at,
                                  const int64_t *steps, int64_t items, int64_t size, int64_t threads)
{
    batch of = {function, plan, plan_size, arrays, at, steps};
    return matfn_in_parts(compute, &of, items, size, threads);
}
