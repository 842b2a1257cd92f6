/* Removal: a retired segment gives most of its memory back at once, also while other processes have it mapped.
 *
 *     retired = 1 | grace | lock each shard, for ever | tail = head in both rings | barrier | punch behind the headers,
 *     and the tables of counts and tags
 *
 * `retired` refuses every operation that begins after it.  The grace lets operations end that had begun before: an
 * operation that touches a punched page gets a new one, or SIGBUS if the file system is full by then.  A process that
 * was stopped inside an operation for longer than the grace can still come back to such a page; docs/hazards says so.
 *
 * What stays is what such a process needs to end in good order: the header (a punched one would not be retired any
 * more), namespaces, process slots, leases, and the shards' headers.  The locks are never given back, because the
 * memory behind them is gone.  When the remover's process has ended, a waiter takes its lock over, sees `retired`
 * and returns. */
#include "retire.h"

#include "liveness.h"
#include "registry.h"
#include "wordlock.h"

#include <fcntl.h>
#include <unistd.h>

/* Retire the segment: all processes move to the next segment of the name at their next call. */
void mpc_retire(mpc_ctx *ctx)
{
    atomic_store(&ctx->header->retired, 1); /* before the check which processes are alive: see mpc_enter() */
}

/* Lock a shard, to change its contents.  MPC_BUSY: it could not be had in time.  MPC_RETIRED: the segment was
 * removed since the caller entered.  Either the remover has the lock, or it will not get it before the caller has
 * left. */
mpc_status mpc_lock_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 wait_ns)
{
    bool locked = mpc_take_shard(ctx, shard, wait_ns);
    if (!mpc_retired(ctx))
        return locked ? MPC_OK : MPC_BUSY;
    if (locked)
        mpc_unlock_shard(ctx, shard);
    return MPC_RETIRED;
}

static void mpc_sleep_ns(u64 ns)
{
    a32 never = 0;
    u64 start = mpc_mono_ns(), passed = 0;
    for (; passed < ns; passed = mpc_mono_ns() - start)
        mpc_futex_wait(&never, 0, ns - passed);
}

static u64 mpc_lock_all_shards(mpc_ctx *ctx)
{
    u64 mine = 0;
    for (u32 i = 0; i < ctx->geometry.shards; i++) {
        if (mpc_take_shard(ctx, mpc_shard_at(ctx, i), MPC_SHARD_WAIT_NS))
            mine |= 1ull << i;
        MPC_POINT();
    }
    return mine;
}

/* Leave no position valid: what a reader copies from here on, it discards.  A restart that its writer did not
 * survive (tail > head) leaves none valid either. */
static void mpc_empty_rings(struct mpc_shard *shard)
{
    for (unsigned ring = 0; ring < MPC_RINGS; ring++) {
        mpc_store_release(&shard->ring[ring].tail, mpc_load(&shard->ring[ring].head));
        MPC_POINT();
    }
}

/* Give the whole pages of a range back. */
static bool mpc_punch(const mpc_ctx *ctx, u64 at, u64 end)
{
    u64 page = (u64)sysconf(_SC_PAGESIZE), from = (at + page - 1) / page * page, to = end / page * page;
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return from >= to || fallocate(ctx->fd, mode, (off_t)from, (off_t)(to - from)) == 0;
}

static bool mpc_punch_shard(const mpc_ctx *ctx, const struct mpc_shard *shard)
{
    u64 at = (u64)((const u8 *)shard - ctx->base);
    return mpc_punch(ctx, at + sizeof *shard, at + ctx->geometry.shard_bytes);
}

static u32 mpc_punch_all(mpc_ctx *ctx, u64 which)
{
    u32 punched = 0;
    for (u32 i = 0; i < ctx->geometry.shards; i++) {
        punched += (which >> i & 1) && mpc_punch_shard(ctx, mpc_shard_at(ctx, i));
        MPC_POINT();
    }
    return punched;
}

/* Retire the segment and give back the memory of its shards.  *kept receives how many shards keep theirs: a stopped
 * process has the lock, or the file system cannot punch holes.  May be repeated, also by a process that finds the
 * work of a remover that was killed.  The grace is skipped if no other process is registered: then there is nothing
 * to wait for. */
mpc_status mpc_remove(mpc_ctx *ctx, u64 grace_ns, u32 *kept)
{
    int error;
    *kept = ctx->geometry.shards;
    mpc_retire(ctx);
    MPC_POINT();
    mpc_status status = mpc_register(ctx);
    if (status != MPC_OK || !mpc_is_our_description(ctx, ctx->fd))
        return status;
    if (mpc_anyone_alive(ctx->fd, ctx->geometry.slots, &error))
        mpc_sleep_ns(grace_ns);
    u64 mine = mpc_lock_all_shards(ctx);
#ifdef MPC_FAULT_PUNCH_FIRST
    mpc_punch_all(ctx, mine);
#endif
    for (u32 i = 0; i < ctx->geometry.shards; i++)
        if (mine >> i & 1)
            mpc_empty_rings(mpc_shard_at(ctx, i));
    atomic_thread_fence(memory_order_seq_cst); /* a reader of a punched page sees the tails that were stored before */
    *kept -= mpc_punch_all(ctx, mine);
    mpc_punch(ctx, ctx->geometry.tallies_at, ctx->geometry.leases_at);
    return MPC_OK;
}
