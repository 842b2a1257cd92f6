/* A context: one process's view of one segment, and the accessors of the segment's tables.
 *
 * Every function of the core takes its context explicitly.  The only state of the process is the list of contexts
 * that the fork handlers need (registry.c). Many contexts may use one segment from one process, as threads do in the
 * sanitizer builds. */
#ifndef MPC_CONTEXT_H
#define MPC_CONTEXT_H

#include "layout.h"

/* The identity of this process.  It lies in a page that fork() wipes, so a child, also of a raw clone(), begins
 * without one. */
struct mpc_self {
    a64 owner; /* generation << 16 | slot */
    a32 word;  /* how word locks name it: incarnation and slot (wordlock.c) */
    a32 state; /* unregistered, registering, registered */
};

/* The owner of a shard for which this process has waited in vain, and its progress by then (wordlock.c). */
struct mpc_given_up {
    a32 word, moves;
    a64 steps, idle_ns, elsewhere_ns;
};

typedef struct mpc_ctx {
    u8 *base;
    struct mpc_header *header;
    struct mpc_geometry geometry; /* private and verified */
    u64 seed[4];
    u64 birth; /* tells this segment from any other */
    struct mpc_self *self;
    int fd;           /* one open file description of this process, on which its liveness lock stands */
    int shared_fd;    /* one that children share, so that no lock of a description stands on it; */
    bool by_process;  /* where no other can be opened, fd is this one and the lock is the process's (registry.c) */
    int fd_for_child; /* made before fork() for the child, -1 otherwise */
    u64 fd_pid;       /* the process that fd's description belongs to */
    void *pin;        /* a page mapped through it, so that the description outlives its descriptor */
    u64 dev, ino;
    u64 mark; /* the file offset of its description: distinguishes it from every other one (registry.c) */
    char *path;       /* by which another description can be opened; NULL: an anonymous segment */
    a64 checked_ns;   /* when its descriptor was last checked */
    a64 hits_since_ns; /* when hits were last counted: some of them check, too (attach.c) */
    a32 hits_allowed, hits_left; /* hits until the next check: as counted then, and now */
    a64 crowded_ns;   /* when every process slot was last found taken */
    a32 lines;        /* of cache, that the last record read had; the next may be as long */
    struct mpc_given_up given_up[MPC_MAX_SHARDS];
    struct mpc_ctx *next;
} mpc_ctx;

static inline struct mpc_namespace *mpc_namespace_at(const mpc_ctx *ctx, u16 namespace)
{
    return (struct mpc_namespace *)(ctx->base + ctx->geometry.namespaces_at) + namespace % MPC_NAMESPACES;
}

static inline struct mpc_stripe *mpc_stripe_at(const mpc_ctx *ctx, u16 namespace, u32 stripe)
{
    u64 which = (u64)(namespace % MPC_NAMESPACES) * ctx->geometry.stripes + stripe % ctx->geometry.stripes;
    return (struct mpc_stripe *)(ctx->base + ctx->geometry.tallies_at) + which;
}

static inline struct mpc_histogram *mpc_histogram_at(const mpc_ctx *ctx, u16 namespace, enum mpc_histogram_kind kind)
{
    u64 which = (u64)(namespace % MPC_NAMESPACES) * MPC_HISTOGRAMS + kind;
    return (struct mpc_histogram *)(ctx->base + ctx->geometry.histograms_at) + which;
}

/* Row MPC_FUNCTIONS, the last one, is that of all functions that found no row. */
static inline struct mpc_function *mpc_function_at(const mpc_ctx *ctx, u32 row)
{
    return (struct mpc_function *)(ctx->base + ctx->geometry.functions_at) + row;
}

static inline struct mpc_slot *mpc_slot_at(const mpc_ctx *ctx, u32 slot)
{
    return (struct mpc_slot *)(ctx->base + ctx->geometry.slots_at) + slot;
}

static inline struct mpc_shard *mpc_shard_at(const mpc_ctx *ctx, u32 shard)
{
    return (struct mpc_shard *)(ctx->base + ctx->geometry.shards_at + shard * ctx->geometry.shard_bytes);
}

/* The epoch in which a creation that begins now begins. */
static inline u64 mpc_epoch(const mpc_ctx *ctx)
{
    return mpc_load_acquire(&ctx->header->clock);
}

/* Whether the segment was removed: all processes move to the next segment of the name at their next call. */
static inline bool mpc_retired(const mpc_ctx *ctx)
{
    return mpc_load_acquire(&ctx->header->retired) != 0;
}

/* Add to a counter that several threads or processes may count in at once.  Relaxed: it orders nothing. */
static inline void mpc_add_to(a64 *counter, u64 n)
{
#ifdef MPC_FAULT_PLAIN_COUNT
    u64 was = mpc_load(counter);
    MPC_POINT();
    mpc_store(counter, was + n);
#else
    mpc_add(counter, n);
#endif
}

/* Count one event of this process.  A reader that found no slot does not count.  Hits and misses of the fast path,
 * which are too many for atomic additions, have words of their own (tally.h). */
static inline void mpc_count(mpc_ctx *ctx, enum mpc_count what)
{
    u64 owner = mpc_load(&ctx->self->owner);
    if (owner != 0)
        mpc_add_to(&mpc_slot_at(ctx, (u32)(owner & 0xffff))->count[what], 1);
}

/* Show processes that wait for a word lock of this process that it is at work: after each unlock, and regularly
 * during long work under a lock.  Not an atomic addition: only that the number changes counts. */
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

/* Between two checks of the descriptor: is it still ours, and has the file still a name? */
#define MPC_REVALIDATE_NS (250 * MPC_NS_PER_MS)

#endif
