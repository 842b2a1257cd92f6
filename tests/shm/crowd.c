/* Run many contexts on one mapping, each with a thread, as if they were processes, and check what they tell each other.
 *
 *     crowd [SECONDS [SEED]]          exit status 0: nothing was wrong
 *
 * Threads work in rounds and meet at the end of each.  ThreadSanitizer sees here what it cannot see between processes.
 * It knows memory by its address, so all contexts use one mapping, not each its own.  Each value names a plain cell
 * that its writer filled before, and each lease guards plain counters, so an order that the engine owes and does not
 * give is a race here.  Also checked, in every build:
 *
 *     a value is whole, and its own key's               a lease has one holder, and its fence is the greatest
 *     a fill that a delete or a set forbade is not there when all have stopped
 *
 * Threads 0 and 1 share a context, as threads of a process do.  The others die now and then: their context goes,
 * with a lease or with the shard's lock, and its liveness byte is free. */
#include "engine.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 6
#define HOT 4 /* keys on which all crowd */
#define KEYS 300
#define CELLS (1u << 16)
#define MOST 1500 /* bytes of a value */
#define STEPS 24 /* operations of a thread in a round */

/* What a value says of itself; the rest of its bytes follow from `cell`. */
struct claim {
    u64 digest;
    u32 key, len, writer, cell;
    u64 version; /* of the database, when its creation began */
    u64 filled;
};

/* The harness's own words order nothing where orders are what is looked for. */
#ifdef __SANITIZE_THREAD__
#define ORDER memory_order_relaxed
#else
#define ORDER memory_order_seq_cst
#endif

static int segment_fd;
static u8 *segment;
static u64 segment_size, finish_ns;
static pthread_barrier_t meeting;
static _Atomic int complaints;
static _Atomic u64 operations, deaths, fills, takeovers, refused;
static bool over; /* written by one thread between two meetings */

static _Atomic u64 database[KEYS]; /* the version */
static _Atomic u64 least[KEYS]; /* the version that the last change left when it returned */
static u64 cells[THREADS][CELLS]; /* plain: what orders them is what the engine gives */
static struct {
    int inside;
    u64 fence;
} held[HOT]; /* plain: the holder of the key's lease may access it */

static pthread_mutex_t mailbox_lock = PTHREAD_MUTEX_INITIALIZER;
static mpc_hold mailbox; /* an old token of thread 0, for thread 1 to give back once more */

struct worker {
    mpc_ctx own, *ctx;
    u32 number, written;
    u64 dice;
    u16 other;
    u8 value[MOST], copy[MOST];
};

static void count(_Atomic u64 *what, u64 more)
{
    atomic_fetch_add_explicit(what, more, memory_order_relaxed);
}

static void complain(const char *what, u32 key, u64 detail)
{
    printf("%s: key %u, %" PRIu64 "\n", what, key, detail);
    atomic_fetch_add_explicit(&complaints, 1, memory_order_relaxed);
}

static u32 roll(struct worker *me, u32 sides)
{
    me->dice ^= me->dice << 13;
    me->dice ^= me->dice >> 7;
    me->dice ^= me->dice << 17;
    return (u32)(me->dice >> 20) % sides;
}

static void raise_to(_Atomic u64 *mark, u64 to)
{
    u64 seen = atomic_load_explicit(mark, ORDER);
    while (seen < to && !atomic_compare_exchange_weak_explicit(mark, &seen, to, ORDER, ORDER))
        ;
}

/* -- values that prove themselves ---------------------------------------------------------------------------------- */

static u64 digest_of(const u8 *value, u32 len)
{
    u64 hash = 1469598103934665603ull;
    for (u32 i = sizeof(u64); i < len; i++)
        hash = (hash ^ value[i]) * 1099511628211ull;
    return hash;
}

static mpc_key key_number(struct worker *me, u16 namespace, u32 number)
{
    mpc_key key;
    static _Thread_local u32 name;
    name = number;
    mpc_key_init(me->ctx, &key, namespace, 0, &name, sizeof name);
    return key;
}

static u32 any_key(struct worker *me)
{
    return roll(me, 2) ? roll(me, HOT) : roll(me, KEYS);
}

static mpc_value make_value(struct worker *me, u32 key, u64 version, bool filled)
{
    struct claim claim = {
        .key = key,
        .len = (u32)sizeof claim + roll(me, MOST - sizeof claim),
        .writer = me->number,
        .cell = me->written++ % CELLS,
        .version = version,
        .filled = filled,
    };
    for (u32 i = sizeof claim; i < claim.len; i++)
        me->value[i] = (u8)(claim.cell + claim.writer + i);
    memcpy(me->value, &claim, sizeof claim);
    claim.digest = digest_of(me->value, claim.len);
    memcpy(me->value, &claim, sizeof claim);
    if (me->written <= CELLS) /* a cell is written once: a reader may come as late as it likes */
        cells[me->number][claim.cell] = claim.digest;
    return (mpc_value){.bytes = me->value, .len = claim.len, .created = 1};
}

static void prove(struct worker *me, u32 key, u64 len)
{
    struct claim claim;
    memcpy(&claim, me->copy, sizeof claim);
    if (len < sizeof claim || claim.len != len || digest_of(me->copy, (u32)len) != claim.digest)
        complain("a value is torn", key, len);
    else if (claim.key != key)
        complain("a value is another key's", key, claim.key);
    else if (cells[claim.writer % THREADS][claim.cell % CELLS] == 0)
        complain("a value came before what was written before it", key, claim.cell);
}

static bool read_key(struct worker *me, u32 key)
{
    mpc_key wanted = key_number(me, 0, key);
    mpc_hit hit;
    mpc_status status;
    do {
        if (mpc_find(me->ctx, &wanted, &hit) != MPC_OK)
            return false;
        if (hit.record.vlen > MOST) {
            complain("a value is too long", key, hit.record.vlen);
            return false;
        }
        status = mpc_copy(me->ctx, &hit, me->copy);
    } while (status == MPC_LAPPED);
    prove(me, key, hit.record.vlen);
    return true;
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

static void change(struct worker *me, bool set)
{
    u32 number = any_key(me);
    mpc_key key = key_number(me, 0, number);
    u64 version = atomic_fetch_add_explicit(&database[number], 1, ORDER) + 1;
    if (set) {
        mpc_value value = make_value(me, number, version, false);
        mpc_set(me->ctx, &key, &value, MPC_SHARD_WAIT_NS);
    } else {
        mpc_delete(me->ctx, &key, MPC_SHARD_WAIT_NS);
    }
    raise_to(&least[number], version);
}

static void add(struct worker *me)
{
    u32 number = any_key(me);
    mpc_key key = key_number(me, 0, number);
    mpc_value value = make_value(me, number, atomic_load_explicit(&database[number], ORDER), false);
    mpc_add_new(me->ctx, &key, &value, MPC_SHARD_WAIT_NS);
}

static void create(struct worker *me, u32 number, const mpc_hold *guard)
{
    mpc_key key = key_number(me, 0, number);
    u64 version = atomic_load_explicit(&database[number], ORDER);
    if (roll(me, 4) == 0)
        usleep(roll(me, 300)); /* a creator takes its time */
    mpc_value value = make_value(me, number, version, true);
    count(mpc_fill(me->ctx, &key, &value, guard, MPC_SHARD_WAIT_NS) == MPC_OK ? &fills : &refused, 1);
}

static bool acquire(struct worker *me, u32 number, mpc_hold *hold)
{
    mpc_key key = key_number(me, 0, number);
    mpc_wait wait = {0};
    for (int i = 0; i < 40; i++) {
        mpc_status status = mpc_lease_try(me->ctx, &key, hold, &wait, MPC_SHARD_WAIT_NS);
        if (status == MPC_OK) {
            count(&takeovers, wait.took_over);
            return true;
        }
        if (status == MPC_HELD)
            mpc_lease_wait(me->ctx, &wait, NULL, 0, 2 * MPC_NS_PER_MS);
    }
    return false;
}

static void hold_and_fill(struct worker *me)
{
    u32 number = roll(me, HOT);
    mpc_hold hold;
    if (!acquire(me, number, &hold))
        return;
    if (held[number].inside++ != 0)
        complain("two hold one lease", number, hold.fence);
    if (hold.fence <= held[number].fence)
        complain("a fence came again", number, hold.fence);
    held[number].fence = hold.fence;
    create(me, number, &hold);
    held[number].inside--;
    if (mpc_lease_release(me->ctx, &hold, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS) != MPC_OK)
        complain("a lease was lost", number, hold.fence);
    if (me->number == 0) {
        pthread_mutex_lock(&mailbox_lock);
        mailbox = hold;
        pthread_mutex_unlock(&mailbox_lock);
    }
}

static void give_back_again(struct worker *me)
{
    pthread_mutex_lock(&mailbox_lock);
    mpc_hold old = mailbox;
    pthread_mutex_unlock(&mailbox_lock);
    for (int i = 0; old.owner != 0 && i < 50; i++)
        if (mpc_lease_release(me->ctx, &old, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS) == MPC_OK)
            complain("an old token gave something back", old.entry, old.fence);
}

static void guard_and_fill(struct worker *me)
{
    u32 number = roll(me, HOT);
    mpc_key key = key_number(me, 0, number);
    mpc_hold guard;
    if (mpc_lease_guard(me->ctx, &key, &guard, MPC_SHARD_WAIT_NS) != MPC_OK)
        return;
    create(me, number, &guard);
    mpc_lease_release(me->ctx, &guard, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
}

static void look_around(struct worker *me)
{
    mpc_cursor cursor = {0};
    mpc_stats stats;
    mpc_hit hit;
    static _Thread_local u8 key[MPC_MAX_KEY];
    char why[200];
    u64 owner;
    mpc_key hot = key_number(me, 0, roll(me, HOT));
    mpc_lease_held(me->ctx, &hot, &owner);
    mpc_stats_read(me->ctx, &stats);
    while (mpc_next_key(me->ctx, &cursor, 0, &hit, key) == MPC_OK)
        ;
    if (mpc_check(me->ctx, why, sizeof why) == MPC_DAMAGED) {
        puts(why);
        complain("the segment is damaged", 0, 0);
    }
}

/* In a namespace of their own: nothing that the others check goes away. */
static void invalidate(struct worker *me)
{
    mpc_key key = key_number(me, me->other, 0);
    mpc_value value = make_value(me, 0, 0, false);
    value.epoch = mpc_epoch(me->ctx);
    mpc_set(me->ctx, &key, &value, MPC_SHARD_WAIT_NS);
    mpc_invalidate(me->ctx, me->other, roll(me, 2));
    if (roll(me, 4) == 0)
        mpc_clear(me->ctx, me->other);
}

/* -- lives --------------------------------------------------------------------------------------------------------- */

static void be_born(struct worker *me)
{
    if (mpc_open(me->ctx, segment_fd, NULL) != MPC_OK)
        abort();
    munmap(me->ctx->base, segment_size);
    me->ctx->base = segment;
    me->ctx->header = (struct mpc_header *)segment;
    if (mpc_register(me->ctx) != MPC_OK)
        abort();
    if (mpc_namespace_open(me->ctx, "other", 5, &me->other) != MPC_OK)
        complain("a namespace cannot be opened", 0, 0);
}

/* Without a word, as a SIGKILL: nothing is given back, and nothing refers to the description any more. */
static void die(mpc_ctx *ctx)
{
    ctx->base = NULL;
    mpc_unpin(ctx);
    mpc_close(ctx);
}

static void die_with_something(struct worker *me)
{
    mpc_hold hold;
    mpc_wait wait = {0};
    mpc_key key = key_number(me, 0, roll(me, HOT));
    if (roll(me, 2))
        mpc_lease_try(me->ctx, &key, &hold, &wait, MPC_SHARD_WAIT_NS);
    else
        mpc_lock(me->ctx, &mpc_shard_at(me->ctx, 0)->lock, MPC_SHARD_WAIT_NS);
    die(me->ctx);
    count(&deaths, 1);
    be_born(me);
}

static void step(struct worker *me)
{
    u32 rolled = roll(me, 100);
    if (rolled < 30)
        read_key(me, any_key(me));
    else if (rolled < 50)
        change(me, true);
    else if (rolled < 62)
        change(me, false);
    else if (rolled < 66)
        add(me);
    else if (rolled < 82)
        hold_and_fill(me);
    else if (rolled < 90)
        me->number == 1 ? give_back_again(me) : guard_and_fill(me);
    else if (rolled < 95)
        invalidate(me);
    else if (rolled < 97)
        look_around(me);
    else if (rolled == 97 && me->number > 1)
        die_with_something(me);
    else if (rolled == 98 && me->number > 1)
        mpc_unregister(me->ctx);
}

/* All threads have stopped, and have checked a second time what they filled. */
static void look_for_the_forbidden(struct worker *me)
{
    for (u32 key = 0; key < HOT; key++) {
        struct claim claim;
        if (!read_key(me, key))
            continue;
        memcpy(&claim, me->copy, sizeof claim);
        if (claim.filled && claim.version < atomic_load(&least[key]))
            complain("a fill is there that was forbidden", key, claim.version);
    }
}

static void *work(void *argument)
{
    struct worker *me = argument;
    while (!over) {
        for (int i = 0; i < STEPS; i++)
            step(me);
        count(&operations, STEPS);
        pthread_barrier_wait(&meeting);
        if (me->number == 0) {
            look_for_the_forbidden(me);
            over = mpc_mono_ns() > finish_ns || atomic_load(&complaints) != 0;
        }
        pthread_barrier_wait(&meeting);
    }
    return NULL;
}

/* Small, so that values leave all the time. */
static void make_segment(void)
{
    struct mpc_geometry geometry;
    segment_size = mpc_smallest(1);
    segment_fd = memfd_create("crowd", MFD_CLOEXEC);
    if (segment_fd < 0 || ftruncate(segment_fd, (off_t)segment_size) != 0)
        abort();
    segment = mmap(NULL, segment_size, PROT_READ | PROT_WRITE, MAP_SHARED, segment_fd, 0);
    if (segment == MAP_FAILED || mpc_plan(&geometry, segment_size, 1, 32, MPC_POSITION_LIMIT) != MPC_OK ||
        mpc_format(segment, &geometry) != MPC_OK)
        abort();
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];
    u64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : mpc_mono_ns();
    finish_ns = mpc_mono_ns() + (u64)((argc > 1 ? atof(argv[1]) : 5) * (double)MPC_NS_PER_S);
    make_segment();
    pthread_barrier_init(&meeting, NULL, THREADS);
    for (u32 i = 0; i < THREADS; i++) {
        workers[i].number = i;
        workers[i].dice = seed * 2654435761u + i * 40503u + 1;
        workers[i].ctx = i == 1 ? &workers[0].own : &workers[i].own;
        if (i == 1)
            workers[i].other = workers[0].other;
        else
            be_born(&workers[i]);
    }
    for (u32 i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, &workers[i]);
    for (u32 i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (u32 i = 0; i < THREADS; i++)
        if (i != 1) {
            mpc_unregister(&workers[i].own);
            die(&workers[i].own);
        }
    printf("operations=%" PRIu64 " fills=%" PRIu64 " refused=%" PRIu64 " deaths=%" PRIu64 " takeovers=%" PRIu64
           " complaints=%d seed=%" PRIu64 "\n",
           operations, fills, refused, deaths, takeovers, complaints, seed);
    return complaints != 0;
}
