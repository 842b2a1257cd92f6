/* A context: one process's view of one segment, and the accessors of the segment's tables.
 *
 * Every function of the core takes its context explicitly; the only state of the process is the list of contexts that
 * the fork handlers need (registry.c).  Many contexts may use one segment from one process, as threads do in the
 * sanitizer builds. */
#ifndef MPC_CONTEXT_H
#define MPC_CONTEXT_H

#include "layout.h"

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

/* Whether the segment was removed: all processes move to the next segment of the name at their next call. */
static inline bool mpc_retired(const mpc_ctx *ctx)
{
    return mpc_load_acquire(&ctx->header->retired) != 0;
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

/* Between two checks of the descriptor: is it still ours, and has the file still a name? */
#define MPC_REVALIDATE_NS (250 * MPC_NS_PER_MS)

#endif
