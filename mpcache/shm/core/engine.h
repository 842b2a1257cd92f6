/* The engine's face: what the binding calls, and what the core's files call of each other.
 *
 * A context is one process's view of one segment.  Every function takes it explicitly; the only state of the
 * process is the list of contexts that fork handlers need (life.c).  Many contexts may look at one segment from
 * one process, as threads do in the sanitizer builds.
 *
 * Suffix _locked: the shard's word lock is held by the caller.  Lock order: one shard, then one lease bucket;
 * a bucket's lock is a leaf, and none is held when a function of this page returns. */
#ifndef MPC_ENGINE_H
#define MPC_ENGINE_H

#include "layout.h"
#include "status.h"

/* Lies in a page that fork() wipes: a child, also one made by a raw clone(), begins as nobody. */
struct mpc_self {
    a64 owner; /* generation << 16 | slot */
    a32 word;  /* how word locks name it: incarnation and slot (wordlock.c) */
    a32 state; /* nobody, registering, registered */
};

/* The owner of a shard that this process has waited for in vain, and what it had done by then (wordlock.c). */
struct mpc_given_up {
    a32 word, moves;
    a64 steps, idle_ns, elsewhere_ns;
};

typedef struct mpc_ctx {
    u8 *base;
    struct mpc_header *header;
    struct mpc_geometry geometry; /* private and verified */
    u64 seed[4];
    struct mpc_self *self;
    int fd;           /* one open file description of this process: its liveness lock stands on it */
    int shared_fd;    /* one that children share, so that no lock of a description stands on it; */
    bool by_process;  /* where no other can be opened fd is this one, and the lock is the process's (life.c) */
    int fd_for_child; /* made before fork() for the child, -1 otherwise */
    u64 fd_pid;       /* the process that fd's description belongs to */
    void *pin;        /* a page mapped through it, so that the description outlives its descriptor */
    u64 dev, ino;
    u64 mark; /* the file offset of its description: tells it from every other one (life.c) */
    char *path;       /* where another descriptor can be had; NULL: an anonymous segment */
    a64 looked_ns;    /* when its descriptor was last looked at */
    a64 hits_since_ns; /* when hits were last counted: they look, too, but not each of them (context.c) */
    a32 hits_allowed, hits_left; /* until one looks: as counted then, and now */
    a64 crowded_ns;   /* when every process slot was last found taken */
    a32 lines;        /* that the last record had which was read; the next may be as long */
    struct mpc_given_up given_up[MPC_MAX_SHARDS];
    struct mpc_ctx *next;
} mpc_ctx;

typedef struct {
    const void *bytes;
    u32 len;
    u16 namespace;
    u8 kind;
    u64 hash;
} mpc_key;

typedef struct {
    const void *bytes;
    u64 len;
} mpc_piece;

typedef struct {
    const void *bytes;
    u64 len;
    const mpc_piece *pieces; /* NULL: it is one; else it lies in so many pieces, of `len` bytes in all, and not in `bytes` */
    u64 n_pieces;
    i64 created; /* wall clock, ns */
    i64 expires; /* wall clock, ns; 0: never */
    u64 epoch;
    u64 version; /* 0: a new one */
    u8 flags;
} mpc_value;

/* What a look-up found: a private copy of the header, and where the value was when it was seen. */
typedef struct {
    struct mpc_record record;
    const u8 *value;
    a64 *slot;
    u64 word;
    struct mpc_ring *ring;
} mpc_hit;

/* A hold of one lease, and the token that proves it. */
typedef struct {
    u64 owner, fence;
    u32 entry;
    bool shared; /* a fill guard that leans on the hold of a mutex of this process */
} mpc_hold;

/* What a waiter remembers of the holder it waits for. */
typedef struct {
    u64 owner, fence, since_ns;
    u64 circle, circle_fence; /* the cycle seen at the last look: its signature, and its youngest fence */
    u32 entry, seq;
    bool dead, took_over;
} mpc_wait;

typedef struct {
    u64 items, evicted;
    u64 live_bytes, used_bytes, capacity_bytes; /* what is used and not live is dead: overwritten, deleted, pads */
} mpc_ring_stats;

typedef struct {
    u64 count[MPC_COUNTS];
    mpc_ring_stats ring[MPC_RINGS];
    u64 promoted, reinserted, ghost_hits, expired, overflow, cleared;
    u64 largest_value, processes, leases, namespaces;
} mpc_stats;

/* Where a scan over all keys stands. */
typedef struct {
    u32 shard;
    u64 slot;
} mpc_cursor;

/* -- birth and attachment: format.c, context.c, life.c ------------------------------------------------------ */
mpc_status mpc_plan(struct mpc_geometry *geometry, u64 size, u32 shards, u32 slots, u64 position_limit);
u64 mpc_smallest(u32 shards);
mpc_status mpc_format(u8 *base, const struct mpc_geometry *geometry);
mpc_status mpc_verify(const u8 *base, u64 mapped, struct mpc_geometry *geometry);
mpc_status mpc_open(mpc_ctx *ctx, int fd, const char *path);
void mpc_close(mpc_ctx *ctx);
mpc_status mpc_revalidate(mpc_ctx *ctx);
mpc_status mpc_revalidate_after_hits(mpc_ctx *ctx);

mpc_status mpc_register(mpc_ctx *ctx);
void mpc_unpin(mpc_ctx *ctx);
void mpc_unregister(mpc_ctx *ctx);
bool mpc_is_dead(mpc_ctx *ctx, u64 owner);
bool mpc_wants_to_run(mpc_ctx *ctx, u64 owner);
bool mpc_anyone_alive(int fd, u32 slots, int *system_error);
void mpc_close_descriptors(mpc_ctx *ctx);
bool mpc_is_our_description(const mpc_ctx *ctx, int fd);
bool mpc_join_fork_list(mpc_ctx *ctx, int fd);
void mpc_leave_fork_list(mpc_ctx *ctx);
u64 mpc_pid_of(mpc_ctx *ctx, u64 owner);

/* procfs.c */
u64 mpc_start_time(u64 pid);
u64 mpc_namespace_of(const char *path);
bool mpc_is_runnable(u64 pid);

/* -- removal: retire.c --------------------------------------------------------------------------------------- */
void mpc_retire(mpc_ctx *ctx);
bool mpc_retired(mpc_ctx *ctx);
mpc_status mpc_lock_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 wait_ns);
mpc_status mpc_remove(mpc_ctx *ctx, u64 grace_ns, u32 *kept);

/* Every operation begins with it: registers a process that is new, or new since a fork.  A process that registers looks
 * at `retired` once more: either it sees that, or the remover sees its liveness byte and waits for it. */
static inline mpc_status mpc_enter(mpc_ctx *ctx)
{
    if (mpc_load(&ctx->header->retired))
        return MPC_RETIRED;
    u64 owner = mpc_load(&ctx->self->owner);
    struct mpc_slot *slots = (struct mpc_slot *)(ctx->base + ctx->geometry.slots_at);
    if (owner != 0 && mpc_load(&slots[owner & 0xffff].id) == owner)
        return MPC_OK;
    mpc_status status = mpc_register(ctx);
    return status == MPC_OK && mpc_load_acquire(&ctx->header->retired) ? MPC_RETIRED : status;
}

/* -- word locks: wordlock.c --------------------------------------------------------------------------------- */
bool mpc_lock(mpc_ctx *ctx, a32 *word, u64 patience_ns);
bool mpc_take_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 patience_ns);
bool mpc_lock_nested(mpc_ctx *ctx, a32 *word, u64 patience_ns);
void mpc_unlock(mpc_ctx *ctx, a32 *lock);
void mpc_unlock_shard(mpc_ctx *ctx, struct mpc_shard *shard);
void mpc_free_word_of(a32 *lock, u32 slot);
u32 mpc_word_of(u64 owner);

/* -- namespaces and keys: space.c, hash.c ------------------------------------------------------------------- */
#define MPC_NO_NAME UINT32_MAX
u32 mpc_namespace_name(mpc_ctx *ctx, u16 which, char name[MPC_NAME_BYTES]);
mpc_status mpc_namespace_open(mpc_ctx *ctx, const char *name, size_t len, u16 *namespace);
u64 mpc_invalidate(mpc_ctx *ctx, u16 namespace, bool hard);
void mpc_clear(mpc_ctx *ctx, u16 namespace);
void mpc_key_init(const mpc_ctx *ctx, mpc_key *key, u16 namespace, u8 kind, const void *bytes, u32 len);
void mpc_key_hash128(const mpc_ctx *ctx, const mpc_key *key, u64 out[2]);
u64 mpc_hash(const u64 seed[2], u64 salt, const void *bytes, size_t n);

/* -- the store: store.c --------------------------------------------------------------------------------------- */
void mpc_prefetch_slot(const mpc_ctx *ctx, const mpc_key *key);
void mpc_prefetch_record(const mpc_ctx *ctx, const mpc_key *key);
mpc_status mpc_may_read(mpc_ctx *ctx);
mpc_status mpc_find(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_find_prefetched(mpc_ctx *ctx, const mpc_key *key, mpc_hit *hit);
mpc_status mpc_copy(mpc_ctx *ctx, const mpc_hit *hit, void *to);
mpc_status mpc_set(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns);
mpc_status mpc_fill(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, const mpc_hold *guard, u64 wait_ns);
mpc_status mpc_delete(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns);
mpc_status mpc_next_key(mpc_ctx *ctx, mpc_cursor *cursor, u16 namespace, mpc_hit *hit, u8 key[MPC_MAX_KEY]);
void mpc_drop(mpc_ctx *ctx, const mpc_key *key);
u64 mpc_largest_value(const mpc_ctx *ctx, u32 klen);

/* -- what depends on the value that is there: change.c ---------------------------------------------------------- */
mpc_status mpc_add_new(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns);
mpc_status mpc_compare_and_set(mpc_ctx *ctx, const mpc_key *key, u64 version, const mpc_value *value, u64 wait_ns);
mpc_status mpc_incr(mpc_ctx *ctx, const mpc_key *key, i64 delta, const i64 *initial, const mpc_value *fresh, i64 *sum,
                    u64 wait_ns);
mpc_status mpc_touch(mpc_ctx *ctx, const mpc_key *key, i64 expires, u8 but, u64 wait_ns);

/* -- the lease table: lease.c ----------------------------------------------------------------------------------- */
mpc_status mpc_lease_try(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold, mpc_wait *wait, u64 wait_ns);
mpc_status mpc_lease_wait(mpc_ctx *ctx, mpc_wait *wait, const mpc_hold *held, u32 count, u64 at_most_ns);
void mpc_lease_waited(mpc_ctx *ctx, const mpc_hold *held, u32 count);
mpc_status mpc_lease_release(mpc_ctx *ctx, const mpc_hold *hold, bool stored, u64 wait_ns);
bool mpc_lease_held(mpc_ctx *ctx, const mpc_key *key, u64 *owner);
bool mpc_lease_mine(mpc_ctx *ctx, const mpc_hold *hold);
mpc_status mpc_lease_guard(mpc_ctx *ctx, const mpc_key *key, mpc_hold *guard, u64 wait_ns);
bool mpc_lease_void(mpc_ctx *ctx, const mpc_key *key);
bool mpc_lease_settle(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns);
bool mpc_lease_fill_begin(mpc_ctx *ctx, const mpc_key *key, const mpc_hold *guard, u64 wait_ns, mpc_status *verdict);
void mpc_lease_fill_end(mpc_ctx *ctx, const mpc_hold *guard);
bool mpc_lease_voided(mpc_ctx *ctx, const mpc_hold *guard);
void mpc_lease_free_slot(mpc_ctx *ctx, u32 slot);

/* -- looking at the whole: census.c ------------------------------------------------------------------------------- */
void mpc_stats_read(mpc_ctx *ctx, mpc_stats *stats);
mpc_status mpc_check(mpc_ctx *ctx, char *why, size_t room);
u32 mpc_leases_of_others(mpc_ctx *ctx);

/* -- small shared helpers ------------------------------------------------------------------------------------------ */
static inline struct mpc_namespace *mpc_namespace_at(const mpc_ctx *ctx, u16 namespace)
{
    return (struct mpc_namespace *)(ctx->base + ctx->geometry.namespaces_at) + namespace % MPC_NAMESPACES;
}

static inline struct mpc_slot *mpc_slot_at(const mpc_ctx *ctx, u32 slot)
{
    return (struct mpc_slot *)(ctx->base + ctx->geometry.slots_at) + slot;
}

static inline struct mpc_shard *mpc_shard_at(const mpc_ctx *ctx, u32 shard)
{
    return (struct mpc_shard *)(ctx->base + ctx->geometry.shards_at + shard * ctx->geometry.shard_bytes);
}

static inline struct mpc_shard *mpc_shard_of(const mpc_ctx *ctx, const mpc_key *key)
{
    return mpc_shard_at(ctx, (u32)(key->hash >> 58) & (ctx->geometry.shards - 1));
}

/* Count one event of this process.  A reader that found no slot counts nowhere.  Not an atomic addition, which would
 * take a tenth of a hit: two threads that count in one instant without the GIL may count one event for two. */
static inline void mpc_count(mpc_ctx *ctx, enum mpc_count what)
{
    u64 owner = mpc_load(&ctx->self->owner);
    if (owner != 0) {
        a64 *count = &mpc_slot_at(ctx, (u32)(owner & 0xffff))->count[what];
        mpc_store(count, mpc_load(count) + 1);
    }
}

/* Show those who wait for a word lock of this process that it is at work: after each unlock, and every so often in what
 * takes long under a lock.  Not an atomic addition: that the number changes is all that counts. */
static inline void mpc_step(a64 *steps)
{
    mpc_store(steps, mpc_load(steps) + 1);
}

static inline a64 *mpc_steps_of(const mpc_ctx *ctx)
{
    return &mpc_slot_at(ctx, (u32)(mpc_load(&ctx->self->owner) & 0xffff))->steps;
}

/* Count one event of a shard, under its lock. */
static inline void mpc_tally_locked(a64 *counter)
{
    mpc_store(counter, mpc_load(counter) + 1);
}

#define MPC_UNLOCKED (1ull << 32) /* steps of one unlock: more than long work under one lock has */
#define MPC_TAKEOVER_NS (20 * MPC_NS_PER_MS) /* a waiter judges the holder each time that this has passed */
#define MPC_SHARD_WAIT_NS (100 * MPC_NS_PER_MS) /* a set gives up when a shard's owner did nothing for so long */
#define MPC_LONG_COPY (64u << 10) /* bytes from which a copy is worth a release of the GIL */
#define MPC_GRACE_NS (250 * MPC_NS_PER_MS) /* a remover lets operations end that began before; longer than any waits */
#define MPC_REVALIDATE_NS (250 * MPC_NS_PER_MS) /* a look at the descriptor: is it still ours, has the file a name? */

#endif
