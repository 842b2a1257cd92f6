/* Stop one thread at each of its points in turn, let another run one whole operation, and let the first go on, or die:
 * every interleaving of two operations with one change of hands, and none left to chance.
 *
 *     pauses [SCENE...]          exit status 0: nothing was ever wrong
 *
 * Built with MPC_POINTS, so that the engine calls mpc_point() between accesses of shared memory. */
#include "engine.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEVER 0
#define SOON (5 * MPC_NS_PER_MS) /* what the other waits for a lock that the first one has */

static int segment_fd, complaints;
static u8 *segment;
static u64 segment_size;
static mpc_ctx first, other, third;

/* -- the one that is stopped --------------------------------------------------------------------------------------- */

static struct {
    int at, stop_at, die_at;
    bool stopped, died, locked; /* locked: it had the bucket's lock when it was stopped */
    sem_t told, go_on;
} actor;
static _Thread_local bool is_actor;

static mpc_key key_of(mpc_ctx *ctx, u32 *name)
{
    mpc_key key;
    mpc_key_init(ctx, &key, 0, 0, name, sizeof *name);
    return key;
}

static mpc_key the_key(mpc_ctx *ctx)
{
    static u32 name = 7;
    return key_of(ctx, &name);
}

static u32 lock_of_bucket(mpc_ctx *ctx, u32 entry)
{
    struct mpc_lease_bucket *buckets = (struct mpc_lease_bucket *)(ctx->base + ctx->geometry.leases_at);
    return mpc_load(&buckets[entry / MPC_LEASES_PER_BUCKET].lock);
}

static mpc_hold held, before;

void mpc_point(void)
{
    if (!is_actor)
        return;
    actor.at++;
    if (actor.at == actor.stop_at) {
        actor.stopped = true;
        actor.locked = lock_of_bucket(&first, held.entry) != 0;
        sem_post(&actor.told);
        sem_wait(&actor.go_on);
    }
    if (actor.at == actor.die_at) {
        actor.died = true;
        pthread_exit(NULL);
    }
}

/* -- scenes -------------------------------------------------------------------------------------------------------- */

static mpc_status what_first_got, what_other_got;
static u8 original[600], copied[600];

static const char *wrong; /* what the scene finds wrong with this run */

static mpc_status put(mpc_ctx *ctx, mpc_key key, u8 fill)
{
    u8 bytes[600];
    memset(bytes, fill, sizeof bytes);
    mpc_value value = {.bytes = bytes, .len = sizeof bytes, .created = 1};
    return mpc_set(ctx, &key, &value, SOON);
}

static mpc_status take(mpc_ctx *ctx, mpc_hold *hold)
{
    mpc_wait wait = {0};
    mpc_key key = the_key(ctx);
    return mpc_lease_try(ctx, &key, hold, &wait, SOON);
}

static mpc_status fill(mpc_ctx *ctx, const mpc_hold *hold)
{
    u8 bytes[600] = {3};
    mpc_key key = the_key(ctx);
    mpc_value value = {.bytes = bytes, .len = sizeof bytes, .created = 1};
    return mpc_fill(ctx, &key, &value, hold, MPC_SHARD_WAIT_NS);
}

static bool is_there(mpc_ctx *ctx)
{
    mpc_hit hit;
    mpc_key key = the_key(ctx);
    return mpc_find(ctx, &key, &hit) == MPC_OK;
}

static void delete(mpc_ctx *ctx)
{
    mpc_key key = the_key(ctx);
    mpc_delete(ctx, &key, MPC_SHARD_WAIT_NS);
}

static void die(mpc_ctx *ctx)
{
    u8 *base = ctx->base;
    ctx->base = NULL;
    mpc_unpin(ctx);
    mpc_close(ctx);
    munmap(base, segment_size);
}

/* A delete begins during one hold and goes on during the next, which another delete has voided meanwhile. */
static void prepare_hold(void)
{
    take(&third, &held);
}

static void first_deletes(void)
{
    delete(&first);
}

static void next_hold_is_voided(void)
{
    mpc_lease_release(&third, &held, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
    if (take(&third, &held) != MPC_OK)
        abort();
    delete(&other);
}

static void look_at_late_void(void)
{
    if (fill(&third, &held) == MPC_OK)
        wrong = "a fill was stored that a delete had forbidden";
}

/* One thread of a process takes the lease, another gives back what the process held before. */
static void prepare_old_token(void)
{
    take(&first, &before);
    mpc_lease_release(&first, &before, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
}

static void first_takes(void)
{
    what_first_got = take(&first, &held);
}

static void old_token_is_given_back(void)
{
    what_other_got = mpc_lease_release(&first, &before, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
}

static void look_at_old_token(void)
{
    if (what_other_got == MPC_OK)
        wrong = "an old token gave back a lease";
    if (what_first_got != MPC_OK || !mpc_lease_mine(&first, &held))
        wrong = "a lease was lost";
}

/* Two find the same holder dead. */
static void prepare_dead_holder(void)
{
    take(&third, &before);
    die(&third);
}

static void other_takes(void)
{
    what_other_got = take(&other, &before);
}

static void look_at_takeovers(void)
{
    if (what_first_got == MPC_OK && what_other_got == MPC_OK)
        wrong = "two have taken over one lease";
    if (what_first_got != MPC_OK && what_other_got != MPC_OK)
        wrong = "no process has taken over";
}

/* A fill, and a delete in the midst of it. */
static void prepare_fill(void)
{
    if (take(&first, &held) != MPC_OK)
        abort();
}

static void first_fills(void)
{
    fill(&first, &held);
}

static void other_deletes(void)
{
    delete(&other);
}

/* A process that was stopped within the bucket's lock until it was not waited for, and then died, is known to leave its
 * value (docs/internals). */
static void look_at_fill(void)
{
    if (is_there(&other) && !(actor.locked && actor.died))
        wrong = "a fill is there that a delete had forbidden";
}

/* A reader, and writers that go over what it reads. */
static void prepare_value(void)
{
    memset(original, 1, sizeof original);
    put(&third, the_key(&third), 1);
    is_there(&third); /* was read: so it leaves the small ring for main, and its place is written over */
}

static void first_reads(void)
{
    mpc_hit hit;
    mpc_key key = the_key(&first);
    memset(copied, 1, sizeof copied);
    if (mpc_find(&first, &key, &hit) == MPC_OK && hit.record.vlen <= sizeof copied)
        if (mpc_copy(&first, &hit, copied) != MPC_OK)
            memset(copied, 1, sizeof copied); /* it says so itself */
}

static void other_goes_round(void)
{
    for (u32 name = 1000; name < 2000; name++)
        put(&other, key_of(&other, &name), 2);
}

static void look_at_copy(void)
{
    if (memcmp(copied, original, sizeof copied) != 0)
        wrong = "a value is another one's";
}

/* The length in a record was damaged. */
static void prepare_damage(void)
{
    mpc_hit hit;
    mpc_key key = the_key(&third);
    put(&third, key, 1);
    if (mpc_find(&third, &key, &hit) != MPC_OK)
        abort();
    struct mpc_record *record = (struct mpc_record *)(uintptr_t)(hit.value - mpc_value_at(hit.record.klen, 0));
    record->vlen = 1u << 30;
}

static void nothing(void)
{
}

static void look_at_length(void)
{
    mpc_hit hit;
    mpc_key key = the_key(&other);
    if (mpc_find(&other, &key, &hit) == MPC_OK && hit.record.vlen == 1u << 30)
        wrong = "a length was believed that leads out of the ring";
}

/* The segment is removed while another process looks: it has found a value already, and copies it at each step. */
static mpc_hit found;
static u32 kept_by_first, kept_by_next;

static void prepare_hit(void)
{
    mpc_key key = the_key(&other);
    memset(original, 1, sizeof original);
    put(&third, key, 1);
    if (mpc_find(&other, &key, &found) != MPC_OK)
        abort();
}

static void first_removes(void)
{
    mpc_remove(&first, 0, &kept_by_first);
}

static void other_copies(void)
{
    mpc_key late = key_of(&other, &(u32){8});
    memset(copied, 1, sizeof copied);
    if (mpc_copy(&other, &found, copied) != MPC_OK)
        memcpy(copied, original, sizeof copied);
    if (put(&other, late, 2) == MPC_OK)
        wrong = "a value was stored in a segment that is being removed";
}

/* Whether or not the remover lived to end it: the memory is free, if need be once the next remover has been there. */
static void look_at_removed(void)
{
    struct stat after;
    mpc_key late = key_of(&third, &(u32){9});
    if (memcmp(copied, original, sizeof copied) != 0)
        wrong = "a reader was served zeros";
    if (put(&third, late, 2) != MPC_RETIRED)
        wrong = "the removed segment is still written to";
    if (actor.died ? mpc_remove(&third, 0, &kept_by_next) != MPC_OK || kept_by_next != 0 : kept_by_first != 0)
        wrong = "a removal cannot be ended";
    fstat(segment_fd, &after);
    if ((u64)after.st_blocks * 512 > third.geometry.shards_at + 2 * 4096)
        wrong = "the memory was not given back";
    if (!mpc_retired(&third))
        wrong = "a removed segment came back";
}

static const struct scene {
    const char *name;
    void (*prepare)(void), (*act)(void), (*meanwhile)(void), (*look)(void);
    bool deaths;
} scenes[] = {
    {"late-void", prepare_hold, first_deletes, next_hold_is_voided, look_at_late_void, false},
    {"old-token", prepare_old_token, first_takes, old_token_is_given_back, look_at_old_token, false},
    {"take-over", prepare_dead_holder, first_takes, other_takes, look_at_takeovers, false},
    {"fill", prepare_fill, first_fills, other_deletes, look_at_fill, true},
    {"read", prepare_value, first_reads, other_goes_round, look_at_copy, false},
    {"damage", prepare_damage, first_reads, nothing, look_at_length, false},
    {"removal", prepare_hit, first_removes, other_copies, look_at_removed, true},
};

/* -- running them -------------------------------------------------------------------------------------------------- */

static void *be_the_actor(void *scene)
{
    is_actor = true;
    ((const struct scene *)scene)->act();
    return NULL;
}

static void *be_the_actor_and_tell(void *scene)
{
    pthread_t thread;
    pthread_create(&thread, NULL, be_the_actor, scene);
    pthread_join(thread, NULL);
    sem_post(&actor.told);
    return NULL;
}

static void begin(mpc_ctx *ctx)
{
    if (mpc_open(ctx, segment_fd, NULL) != MPC_OK || mpc_register(ctx) != MPC_OK)
        abort();
}

static void make_segment(void)
{
    struct mpc_geometry geometry;
    memset(segment, 0, segment_size);
    if (mpc_plan(&geometry, segment_size, 1, 8, MPC_POSITION_LIMIT) != MPC_OK ||
        mpc_format(segment, &geometry) != MPC_OK)
        abort();
}

/* Whether it came to where it was to stop. */
static bool play(const struct scene *scene, int stop_at, int die_at)
{
    pthread_t thread;
    make_segment();
    begin(&first);
    begin(&other);
    begin(&third);
    wrong = NULL;
    what_first_got = what_other_got = MPC_HELD;
    scene->prepare();
    actor.at = 0;
    actor.stop_at = stop_at;
    actor.die_at = die_at;
    actor.stopped = actor.died = actor.locked = false;
    pthread_create(&thread, NULL, be_the_actor_and_tell, (void *)(uintptr_t)scene);
    sem_wait(&actor.told);
    scene->meanwhile();
    if (actor.stopped) {
        sem_post(&actor.go_on);
        sem_wait(&actor.told);
    }
    pthread_join(thread, NULL);
    if (actor.died)
        die(&first);
    scene->look();
    if (wrong) {
        printf("%s, stopped at %d, dead at %d: %s\n", scene->name, stop_at, die_at, wrong);
        complaints++;
    }
    mpc_close(&first);
    mpc_close(&other);
    mpc_close(&third);
    return actor.stopped;
}

static void play_all(const struct scene *scene)
{
    int stops = 0, deaths = 0;
    while (play(scene, stops + 1, NEVER)) {
        int points = actor.at;
        stops++;
        for (int death = stops; scene->deaths && death <= points; death++, deaths++)
            play(scene, stops, death);
    }
    printf("%-10s %3d stops, %3d deaths after one\n", scene->name, stops, deaths);
}

static bool is_wanted(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return count == 0;
}

int main(int argc, char **argv)
{
    segment_size = mpc_smallest(1);
    segment_fd = memfd_create("pauses", MFD_CLOEXEC);
    if (segment_fd < 0 || ftruncate(segment_fd, (off_t)segment_size) != 0)
        return perror("pauses"), 2;
    segment = mmap(NULL, segment_size, PROT_READ | PROT_WRITE, MAP_SHARED, segment_fd, 0);
    if (segment == MAP_FAILED)
        return perror("pauses"), 2;
    sem_init(&actor.told, 0, 0);
    sem_init(&actor.go_on, 0, 0);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
        if (is_wanted(scenes[i].name, argc - 1, argv + 1))
            play_all(&scenes[i]);
    printf("%d complaints\n", complaints);
    return complaints != 0;
}
